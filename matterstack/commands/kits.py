"""Kits: carried away as an archive, and brought home."""

from __future__ import annotations

import argparse
from pathlib import Path

from matterstack.commands.command import DONE, Commands
from matterstack.commands.output import Table, show
from matterstack.commands.places import add_run, add_task, run_path
from matterstack.commands.runs import status_document

_MOST_GIB = 20.0


def add(commands: Commands) -> None:
    """Add what packs and unpacks kits."""
    commands.heading("Carry kits")
    kits = commands.group("kits", "Carry kits to a machine that nothing can reach, and bring them home.")
    export = kits.add(
        "export",
        _export,
        "Pack every kit that waits to be carried away into a zip archive.",
        "matterstack kits export oxides/r1 away.zip",
    )
    add_run(export)
    export.add_argument("archive", metavar="ARCHIVE", type=Path, help="a zip archive that is there is replaced")
    home = kits.add(
        "import",
        _import,
        "Take results home from an archive, zip or tar.gz: in any order, partly, twice.",
        "matterstack kits import oxides/r1 back.tar.gz",
    )
    add_run(home)
    home.add_argument("archive", metavar="ARCHIVE", type=Path, help="what came back from where the kits were run")
    _add_most(home)
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
    said = "by default they are in the attempt's directory"
    late.add_argument("archive", metavar="ARCHIVE", nargs="?", type=Path, help=said)
    _add_most(late)


def _add_most(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-gib", type=float, default=_MOST_GIB, metavar="GIB", help="most to unpack (%(default)s)")


def _export(given: argparse.Namespace) -> int:
    from matterstack.run_lifecycle import open_run

    names = open_run(run_path(given)).export_kits(given.archive)
    rows = [{"attempt": name} for name in names]
    show(given, {"archive": given.archive.absolute(), "attempts": names}, Table(["attempt"], rows))
    return DONE


def _import(given: argparse.Namespace) -> int:
    from matterstack.run_lifecycle import open_run

    imported = open_run(run_path(given)).import_kits(given.archive, max_gib=given.max_gib)
    document = imported._asdict()
    rows = [{"what": what.replace("_", " "), "name": name} for what, names in document.items() for name in names]
    show(given, document, Table(["what", "name"], rows, "The archive has no kits of this run."))
    return DONE


def _take_late(given: argparse.Namespace) -> int:
    from matterstack.run_lifecycle import open_run

    run = open_run(run_path(given))
    run.take_late(given.task, given.archive, attempt=given.attempt, max_gib=given.max_gib)
    show(given, status_document(run.overview), "Taken: the next step goes on with them.")
    return DONE
