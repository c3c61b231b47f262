"""Health: of a run's database, and of what is around runs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from matterstack.commands.command import DONE, FAILED, Commands
from matterstack.commands.output import show
from matterstack.commands.places import add_place, add_run, place_at, run_path
from matterstack.errors import RunNotFoundError, StoreError

if TYPE_CHECKING:
    from matterstack.core.diagnosis import Diagnosis


def add(commands: Commands) -> None:
    """Add what looks for what is wrong."""
    commands.heading("Look for what is wrong")
    add_run(
        commands.add(
            "check",
            _check,
            "Compare the database of a run with itself: counters with rows, statuses with each other.",
            "matterstack check oxides/r1",
            more="Exit status 1 where it contradicts itself.",
        )
    )
    doctor = commands.add(
        "doctor",
        _doctor,
        "Look at what is around runs: what is wrong, why it matters, and what to do.",
        "matterstack doctor --ssh cluster --slurm",
        more="Of a run: who holds it, its database, trust, environment, operators, limits. Of a workspace: its limits, "
        "who holds what of them, and whether its runs can be read. Of any other directory: its file system, in a "
        "folder that is made there and removed. Of a host: whether ssh and rsync come in, and what is there. Of a "
        "Slurm: whether it answers. Exit status 1 where something is wrong; what is only weak does not count.",
    )
    add_place(doctor, "a run, a workspace, or any directory (default: here)", optional=True)
    doctor.add_argument("--ssh", metavar="HOST", help="look at a host, named as for ssh")
    doctor.add_argument("--slurm", action="store_true", help="look at the Slurm of this machine, or of that host")
    doctor.add_argument("--python", metavar="NAME", default="python3", help="Python of that host (%(default)s)")


def _check(given: argparse.Namespace) -> int:
    from matterstack.orchestration.overview import check

    found = check(run_path(given))
    show(given, {"found": found}, "\n".join(found) or "The database agrees with itself.")
    return FAILED if found else DONE


def _doctor(given: argparse.Namespace) -> int:
    from matterstack.core.diagnosis import Grade

    found: list[Diagnosis] = []
    table = ""
    if given.ssh is not None or given.slurm:
        from matterstack.operators.jobs.surroundings import examine_slurm, examine_ssh

        found += [] if given.ssh is None else examine_ssh(given.ssh, given.python)
        if given.slurm:
            found += examine_slurm(given.ssh, given.python)
    if given.place is not None or not found:
        table, more = _place(given.place or os.curdir, given.base_path)
        found += more
    document = [one._asdict() | {"grade": str(one.grade)} for one in found]
    show(given, {"diagnoses": document}, *([table] if table else []), "\n".join(map(_told, found)))
    return FAILED if any(one.grade is Grade.WRONG for one in found) else DONE


def _place(name: str, base_path: str) -> tuple[str, list[Diagnosis]]:
    """Return a table to show, and what is found at a run, at a workspace, or else in a directory."""
    try:
        place = place_at(name, base_path)
    except RunNotFoundError:
        if not Path(name).is_dir():
            raise
        from matterstack.storage.file_system import examine

        return "", examine(Path(name).absolute())
    if isinstance(place, Path):
        from matterstack.orchestration.examination import examine_run

        return "", examine_run(place)
    return _workspace(*place)


def _workspace(base_path: Path, name: str) -> tuple[str, list[Diagnosis]]:
    from matterstack.core.diagnosis import well, wrong
    from matterstack.orchestration.overview import overviews
    from matterstack.workspace import doctor

    try:
        table, texts = doctor(base_path / "workspaces" / name)
    except StoreError as error:
        table, found = "", [wrong("limits", str(error), "tasks that take one wait until it can be read")]
    else:
        found = [wrong("limits", *text.partition(": ")[::2]) for text in texts] or [well("limits", "they hold")]
    seen = dict(overviews(base_path, name))
    found += [
        wrong("runs", f"{path.name} cannot be read: {why}", f"matterstack doctor {path}")
        for path, why in seen.items()
        if isinstance(why, str)
    ] or [well("runs", "it can be read" if len(seen) == 1 else f"all {len(seen)} can be read")]
    return table, found


def _told(one: Diagnosis) -> str:
    remedy = f"\n       -> {one.remedy}" if one.remedy else ""
    return f"{one.grade:5}  {one.what}: {one.why}{remedy}"
