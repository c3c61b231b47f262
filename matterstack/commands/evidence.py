"""Evidence: a run written for others, and checked against its own record."""

from __future__ import annotations

import argparse
from pathlib import Path

from matterstack.commands.command import DONE, FAILED, Commands
from matterstack.commands.output import Table, show
from matterstack.commands.places import add_run, run_path


def add(commands: Commands) -> None:
    """Add what hands a run on, and what checks one that was."""
    commands.heading("Hand a run on")
    export = commands.add(
        "export",
        _export,
        "Write a run for others: a report, tables, an RO-Crate, and the run itself.",
        "matterstack export oxides/r1 oxides-r1.zip --zip --files all",
        more="Works also while the run is under way, and changes nothing of it. The same run gives the same bytes.",
    )
    add_run(export)
    said = "where to write it; it must not exist yet (default: WORKSPACE-RUN_ID)"
    export.add_argument("path", metavar="PATH", nargs="?", type=Path, help=said)
    export.add_argument("--zip", action="store_true", help="write a zip file")
    export.add_argument(
        "--files",
        choices=("declared", "all", "none"),
        default="declared",
        help="which files of attempts: what plan and record name, all, or none (%(default)s)",
    )
    add_run(
        commands.add(
            "verify",
            _verify,
            "Check that every file that the record of a run names is there and unchanged.",
            "matterstack verify oxides/r1",
            more="Exit status 1 where one is missing or changed. What was removed on purpose, packed, or left out of "
            "an export is reported apart.",
        )
    )


def _export(given: argparse.Namespace) -> int:
    from matterstack.run_lifecycle import open_run

    path = open_run(run_path(given)).export(given.path, zip=given.zip, files=given.files)
    show(given, {"path": str(path), "files": given.files}, f"Written: {path}")
    return DONE


def _verify(given: argparse.Namespace) -> int:
    from matterstack.run_lifecycle import open_run

    found = open_run(run_path(given)).verify()
    rows = [one._asdict() for one in found.differ]
    parts = [Table(("status", "path", "why"), rows)] if rows else []
    show(given, found.as_data(), found.headline, *parts)
    return DONE if found else FAILED
