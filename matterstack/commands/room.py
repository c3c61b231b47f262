"""Room on disk: what of a run can be made again, and results that are known from before."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from matterstack.commands.command import DONE, Commands
from matterstack.commands.output import Table, show
from matterstack.commands.places import add_run, run_path
from matterstack.errors import InvalidConfigError

if TYPE_CHECKING:
    from matterstack.cache import Cache

_OF_ENTRIES = ("name", "run", "attempt", "at", "used_at", "files", "bytes", "key")
_OF_CLEANING = ("attempt", "operator", "why", "what", "files", "bytes")


def add(commands: Commands) -> None:
    """Add what makes room."""
    commands.heading("Make room")
    clean = commands.add(
        "clean",
        _clean,
        "Show which files of a run can be made again and may go; with --do, remove them.",
        "matterstack clean oxides/r1 --no-earlier-attempts --do",
    )
    add_run(clean)
    clean.add_argument("--do", dest="act", action="store_true", help="remove it")
    for option, said in (("--earlier-attempts", "of tasks that are over"), ("--scratch", "what nobody waits for")):
        clean.add_argument(option, action=argparse.BooleanOptionalAction, default=True, help=said)
    add_run(
        commands.add(
            "pack",
            _pack,
            "Put the attempts of earlier iterations into archives; whatever reads them goes on doing so.",
            "matterstack pack oxides/r1",
            more="An archive is on disk, read again and compared, before anything is removed.",
        )
    )
    cache = commands.group("cache", "Look at results that are known from before, and remove some. See docs/cache.md.")
    _add_cache(cache, "list", _list, "List the entries of a cache, the most recently used first.")
    _add_cache(cache, "info", _info, "Say how much a cache holds of each function and command.")
    said = "Remove the entries of a function or command, or one by its key."
    forget = _add_cache(cache, "forget", _forget, said, "relax")
    forget.add_argument("what", metavar="WHAT", help="name of the function or command, or a key")
    prune = _add_cache(
        cache,
        "prune",
        _prune,
        "Remove entries that have not been used for long, then the longest unused until the rest fits.",
        "--older-than-days 90",
    )
    prune.add_argument("--older-than-days", metavar="N", type=float, help="how long unused")
    prune.add_argument("--max-gib", metavar="GIB", type=float, help="how much the files of entries may take")


def _add_cache(
    cache: Commands, name: str, do: Callable[[argparse.Namespace], int], said: str, example: str = ""
) -> argparse.ArgumentParser:
    parser = cache.add(name, do, said, f"matterstack cache {name} ~/cache {example}".strip())
    parser.add_argument("directory", metavar="DIRECTORY", help="of the cache")
    return parser


def _clean(given: argparse.Namespace) -> int:
    from matterstack.run_lifecycle import open_run

    run = open_run(run_path(given))
    found = run.clean(earlier_attempts=given.earlier_attempts, scratch=given.scratch, do=given.act)
    rows: list[dict[str, Any]] = [
        {
            "attempt": one.attempt.name,
            "operator": one.attempt.operator,
            "why": one.why,
            "what": list(one.paths),
            "files": one.files,
            "bytes": one.bytes,
        }
        for one in found
    ]
    document = {"done": found.done, "removable": rows, "left": list(found.left)}
    shown = [row | {"what": "all" if row["what"] == [""] else ", ".join(row["what"])} for row in rows]
    said = "Removed." if found.done else "Nothing was removed: --do removes it."
    left = [f"left: {text}" for text in found.left]
    show(
        given,
        document,
        Table(_OF_CLEANING, shown, "There is nothing to remove.", ("operator", "files")),
        *([said] if rows else []),
        *left,
    )
    return DONE


def _pack(given: argparse.Namespace) -> int:
    from matterstack.run_lifecycle import open_run

    packing = open_run(run_path(given)).pack()
    document = {"packed": [one._asdict() for one in packing], "left": list(packing.left)}
    show(given, document, str(packing))
    return DONE


def _cache(given: argparse.Namespace) -> Cache:
    """Return the cache that was named; a run makes one where there is none, and a command does not."""
    from matterstack.cache import Cache

    cache = Cache(given.directory)
    if not cache.is_there():
        raise InvalidConfigError(
            f"there is no cache at {cache.path}: DIRECTORY is what cache= of a run names, and the first result that is "
            "kept makes it"
        )
    return cache


def _entries(given: argparse.Namespace) -> list[dict[str, Any]]:
    import pandas as pd

    entries = _cache(given).entries.rename(columns={"size_bytes": "bytes"})
    rows = entries.to_dict("records")
    return [{str(name): None if pd.isna(value) else value for name, value in row.items()} for row in rows]


def _list(given: argparse.Namespace) -> int:
    rows = _entries(given)
    show(
        given,
        {"entries": rows},
        Table(_OF_ENTRIES, rows, "The cache holds nothing.", ("at", "attempt", "run", "files")),
    )
    return DONE


def _info(given: argparse.Namespace) -> int:
    by_name: dict[str, dict[str, Any]] = defaultdict(lambda: {"entries": 0, "files": 0, "bytes": 0})
    for entry in _entries(given):
        row = by_name[entry["name"]]
        row |= {"entries": row["entries"] + 1, **{name: row[name] + entry[name] for name in ("files", "bytes")}}
    rows = [{"name": name, **row} for name, row in sorted(by_name.items())]
    show(given, {"names": rows}, Table(("name", "entries", "files", "bytes"), rows, "The cache holds nothing."))
    return DONE


def _forget(given: argparse.Namespace) -> int:
    return _removed(given, _cache(given).forget(given.what))


def _prune(given: argparse.Namespace) -> int:
    return _removed(given, _cache(given).prune(older_than_days=given.older_than_days, max_gib=given.max_gib))


def _removed(given: argparse.Namespace, count: int) -> int:
    show(given, {"removed": count}, "Removed 1 entry." if count == 1 else f"Removed {count} entries.")
    return DONE
