"""Kits: carried away as an archive, and brought home."""

from __future__ import annotations

import argparse
from pathlib import Path

from matterstack.commands.command import DONE, Commands
from matterstack.commands.output import show
from matterstack.commands.places import add_run, add_task, run_path
from matterstack.commands.runs import status_document

_MOST_GIB = 20.0


def add(commands: Commands) -> None:
    """Add what packs and unpacks kits."""
    commands.heading("Carry kits")
    late = commands.add(
        "take-late",
        _take_late,
        "Take in, on your word, results of a kit that came after its attempt had failed.",
        "matterstack take-late oxides/r1 relax back.zip",
        more="They have to be whole, and made from the inputs that the task has now. The next step goes on with them.",
        schema="status",
    )
    add_run(late)
    add_task(late, iteration=False)
    late.add_argument("archive", metavar="ARCHIVE", nargs="?", type=Path, help="by default they lie in the attempt")
    _add_most(late)


def _add_most(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-gib", type=float, default=_MOST_GIB, metavar="GIB", help="most to unpack (%(default)s)")


def _take_late(given: argparse.Namespace) -> int:
    from matterstack.run_lifecycle import open_run

    run = open_run(run_path(given))
    run.take_late(given.task, given.archive, attempt=given.attempt, max_gib=given.max_gib)
    show(given, status_document(run.overview), "Taken: the next step goes on with them.")
    return DONE
