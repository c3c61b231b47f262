"""Whom a run tells in tests: who writes down what came, where others may look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matterstack as ms
from matterstack.core.notices import Notice


def write_down(notice: Notice) -> None:
    """Write down what came, beside the run."""
    with open(f"{notice.path}.told", "a") as file:
        file.write(f"{notice.title}\n")


def refuse(notice: Notice) -> None:
    """Raise, with a secret in it."""
    raise ValueError("the password hunter22 is wrong")


def writes(file: Path) -> list[str]:
    """Return a command that appends what it is told to a file, a line each."""
    return ["/bin/sh", "-c", f'printf "%s\\n" "$(cat)" >> {file}']


def came(file: Path) -> list[dict[str, Any]]:
    """Return what came so far."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def all_sent(run: ms.Run) -> bool:
    """Return whether the sending of each notice to each of its sinks has ended, well or not."""
    notices = [path for path in (run.path / "notices").glob("*.json") if not path.name.startswith(".")]
    wanted = sum(len(json.loads(path.read_text())["to"]) for path in notices)
    claims, ends = ({path.stem for path in (run.path / "notices").glob(f"0*.{kind}")} for kind in ("claim", "end"))
    return bool(notices) and claims == ends and len({name.rpartition(".")[0] for name in ends}) == wanted


def journal(run: ms.Run) -> list[str]:
    """Return what the journal says of notices."""
    return [row.reason or "" for row in run.store.events() if row.event == "told"]
