"""Kits that are carried away, run with nothing but a shell, and packed to come home."""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matterstack as ms

COMMAND = (
    'cat start.xyz inputs.json 2>/dev/null; echo "$GREETING"; echo energy > OUTCAR; echo \'{"e_eV": -2}\' > result.json'
)
GREETING = 'it\'s "odd" $(touch /tmp/never) `x` \\'


def start(base: Path, names: tuple[str, ...] = ("a", "b"), command: Any = COMMAND, **task: Any) -> ms.Run:
    settings = {"outputs": ["OUTCAR"], "files": {"start.xyz": "1\n", "deep/er.txt": "x"}, "env": {"GREETING": GREETING}}
    flow = ms.Workflow([ms.Task(name, command, operator="manual", **{**settings, **task}) for name in names])
    operators = {"manual": ms.ManualHPCOperator(preamble="export FROM_PREAMBLE=1", sbatch=["--partition=long"])}
    run = ms.initialize_run("w", flow, base_path=base, operators=operators)
    run.step()
    return run


def kit(run: ms.Run, name: str = "a") -> Path:
    return run.path / f"operators/manual/0.{name}.1"


def execute(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a kit with nothing but a POSIX shell."""
    return subprocess.run(
        ["env", "-i", *(f"{k}={v}" for k, v in environment.items()), "/bin/sh", "submit.sh"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=180,
    )


def drop_sums(directory: Path) -> None:
    """Have a kit that ran be one of a cluster that cannot make sums."""
    (directory / "output.sha256").unlink()
    said = json.loads((directory / "status.json").read_text())
    (directory / "status.json").write_text(json.dumps({**said, "sums": ""}))


def carry(run: ms.Run, base: Path) -> Path:
    """Export the kits, unpack them elsewhere, run each, and return the directory they lie in."""
    run.export_kits(base / "kits.zip")
    away = base / "away from home"
    with zipfile.ZipFile(base / "kits.zip") as archive:
        archive.extractall(away)
    for directory in sorted(away.iterdir()):
        assert execute(directory).returncode == 0
    return away


def pack(away: Path, archive: Path, choose: Callable[[str], bool] = lambda name: True) -> Path:
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted(away.rglob("*")):
            name = str(path.relative_to(away))
            if path.is_file() and choose(name):
                out.write(path, name)
    return archive
