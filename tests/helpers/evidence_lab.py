"""A run that has a bit of everything, to be verified and handed on: functions, files, a failure, a person, a kit."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import matterstack as ms
from matterstack.errors import AnswerRefusedError

PICK = {
    "type": "object",
    "properties": {"metal": {"enum": ["Al", "Cu"]}, "why": {"type": "string"}},
    "required": ["metal", "why"],
}
#: What a stranger might write where text is asked for.
HOSTILE = "<script>alert('x')</script>"
#: What stands in a variable of the environment, and shall stand nowhere else.
SECRET = "hunter2-correct-horse-battery"


@ms.task(retries=1)
def relax(metal: str, a_ang: float) -> dict[str, Any]:
    """Relax a cell, in two positions."""
    numbers = {"Al": 13, "Cu": 29}
    with open("relax.log", "w") as log:
        log.write(f"{metal} {a_ang}\n")
    return {
        "energy_eV": -3.0 - 0.1 * a_ang,
        "a_ang": a_ang,
        "atoms": {
            "numbers": [numbers[metal]] * 2,
            "positions": [[0.0, 0.0, 0.0], [a_ang / 2, a_ang / 2, a_ang / 2]],
            "cell": [[a_ang, 0, 0], [0, a_ang, 0], [0, 0, a_ang]],
        },
    }


class Metals(ms.Campaign):
    """Relax some metals, have a person pick one, and refine that one elsewhere."""

    target = {"energy_eV": "min"}  # noqa: RUF012

    def __init__(self, a_ang: dict[str, float]) -> None:
        self.a_ang = a_ang

    def initial_state(self) -> Any:
        return {"picked": None, "refined": False}

    def plan(self, state: Any) -> ms.Workflow | None:
        """Return the next iteration."""
        if state["refined"]:
            return None
        if state["picked"]:
            start = {"start.xyz": f"structure of {state['picked']}\n", "pseudo.bin": b"\x00\x01"}
            command = "cat start.xyz > last.xyz; printf '{\"energy_eV\": -9.5}' > result.json"
            outputs = ["last.xyz"]
            return ms.Workflow([ms.Task("refine", command, operator="cluster", files=start, outputs=outputs)])
        flow = ms.Workflow()
        for metal, a_ang in self.a_ang.items():
            flow.add(f"relax-{metal}", relax, metal, a_ang)
        flow.add_task(
            ms.Task(
                "bands",
                "cat INCAR relax.json > bands.txt; echo big > wave.tmp; printf '{\"gap_eV\": 1.25}' > result.json",
                files={"INCAR": "EDIFF=1\n", "relax.json": ms.FromTask("relax-Al", "value.json")},
                outputs=["bands.txt"],
                scratch=["*.tmp"],
                parameters={"cutoff_eV": 520},
            )
        )
        flow.add_task(ms.Task("doomed", "echo 'SCF did not converge' >&2; exit 3", retries=1, allow_failure=True))
        flow.add_task(
            ms.Task(
                "pick", operator="people", instructions=f"Which one? {HOSTILE}", schema=PICK, dependencies=["bands"]
            )
        )
        return flow

    def analyze(self, state: Any, results: Mapping[str, ms.TaskResult]) -> Any:
        """Take in what the iteration gave."""
        if "pick" in results:
            return {**state, "picked": results["pick"].data["metal"]}
        return {**state, "refined": True}


def make(base: Path) -> ms.Run:
    """Return the run, up to where a person is asked."""
    operators = {
        "local": ms.LocalOperator(max_active=2),
        "people": ms.HumanOperator(),
        "cluster": ms.ManualHPCOperator(),
    }
    campaign = Metals({"Al": 4.05, "Cu": 3.61})
    run = ms.initialize_run("metals", campaign, operators=operators, base_path=base, run_id="first")
    assert run.wait(timeout_s=180) is ms.RunStatus.RUNNING
    return run


def answer(run: ms.Run) -> None:
    """Answer, wrongly and then rightly."""
    with pytest.raises(AnswerRefusedError):
        run.respond("pick", {"metal": "Au", "why": ""})
    run.respond("pick", {"metal": "Cu", "why": f"lowest {HOSTILE}"})


def finish(run: ms.Run, base: Path) -> None:
    """Carry the kit away and home, and end the run."""
    while run.iteration == 0 or not run.inbox():
        run.step()
    run.export_kits(base / "kits.zip")
    away = base / "cluster"
    subprocess.run(["python3", "-m", "zipfile", "-e", base / "kits.zip", away], check=True)
    subprocess.run(["env", "-i", "sh", "submit.sh"], cwd=away / "1.refine.1", check=True)
    subprocess.run(["python3", "-m", "zipfile", "-c", base / "back.zip", *away.iterdir()], check=True)
    assert run.import_kits(base / "back.zip").taken == ["1.refine.1"]
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED


def copied(run: ms.Run, base: Path) -> ms.Run:
    """Return a copy, which nobody has trusted."""
    shutil.copytree(run.path, base / "copy", symlinks=True)
    return ms.open_run(base / "copy")


def holders(folder: Path, value: str = SECRET) -> list[str]:
    """Return the names of the files in which a value stands."""
    found = []
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            with contextlib.suppress(FileNotFoundError):  # whoever leaves takes files with it
                if path.is_file() and value.encode() in path.read_bytes():
                    found.append(path.name)
    return found


def assert_no_secret_stays(run: ms.Run, base: Path) -> None:
    """Assert that one task of a run, ``signed``, had the secret, and that neither the run nor an export holds it."""
    assert run.file("signed", "sum.txt").read_text().split()[0] == hashlib.sha256(SECRET.encode()).hexdigest()
    home = run.export(base / "e", files="all")
    assert b"env:LAB_TOKEN" in (home / "state.sqlite").read_bytes()
    assert (home / f"operators/{run.attempts['operator'].iloc[0]}/0.signed.1/.matterstack").is_dir()
    assert holders(base) == []


def signed(operator: str) -> ms.Task:
    """Return a task that has the secret in its environment."""
    command = 'printf %s "$TOKEN" | sha256sum > sum.txt'
    return ms.Task("signed", command, env={"TOKEN": "env:LAB_TOKEN"}, operator=operator, outputs=["sum.txt"])


def pipe(path: Path) -> None:
    """Put a FIFO in place of a file."""
    path.unlink()
    os.mkfifo(path)
