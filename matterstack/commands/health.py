"""Health: of a run's database, and of what is around runs."""

from __future__ import annotations

import argparse

from matterstack.commands.command import DONE, FAILED, Commands
from matterstack.commands.output import show
from matterstack.commands.places import add_run, add_workspace, run_path, workspace_place


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
    add_workspace(
        commands.add(
            "doctor",
            _doctor,
            "List the limits of a workspace, who holds what of them, and what somebody has to see to.",
            "matterstack doctor oxides",
            more="Exit status 1 where there is something.",
        )
    )


def _check(given: argparse.Namespace) -> int:
    from matterstack.orchestration.overview import check

    found = check(run_path(given))
    show(given, {"found": found}, "\n".join(found) or "The database agrees with itself.")
    return FAILED if found else DONE


def _doctor(given: argparse.Namespace) -> int:
    from matterstack.workspace import doctor

    base_path, workspace = workspace_place(given.workspace, given.base_path)
    table, found = doctor(base_path / "workspaces" / workspace)
    show(given, {"found": found}, "\n".join([table, *(f"- {one}" for one in found)]))
    return FAILED if found else DONE
