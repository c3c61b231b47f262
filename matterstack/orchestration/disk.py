"""Room on disk that a run takes: in bytes, and in files, of which a quota may allow fewer."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from matterstack.errors import UnsafeFileError
from matterstack.files import room_bytes, walk_inside
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    import pandas as pd

_ATTEMPT = re.compile(r"(0|[1-9][0-9]*)\.(.+)\.[1-9][0-9]*\Z")
_COLUMNS = ("what", "operator", "function", "attempts", "files", "bytes")


class _Place(NamedTuple):
    what: str
    operator: str = ""
    function: str = ""


def usage(directory: RunDirectory, reader: StoreReader) -> pd.DataFrame:
    """Return what each part of a run takes on disk; see `Run.disk_usage`.

    Parameters
    ----------
    directory : RunDirectory
    reader : StoreReader
        Knows which tasks call which function.
    """
    import pandas as pd

    functions = reader.functions()
    attempts: Counter[_Place] = Counter()
    files: Counter[_Place] = Counter()
    room: Counter[_Place] = Counter()
    known: set[tuple[int, int]] = set()
    not_seen: list[str] = []
    # What attempts have in common with the run, as hard links, is the run's.
    for top in sorted(os.listdir(directory.path), key=lambda name: (name != "files", name)):
        for path, status in _below(directory, top, not_seen):
            place, is_attempt = _place_of(path, functions)
            attempts[place] += is_attempt
            if (status.st_dev, status.st_ino) not in known:
                known.add((status.st_dev, status.st_ino))
                files[place] += 1
                room[place] += room_bytes(status)
    rows = [(*place, attempts[place], files[place], room[place]) for place in sorted(files | attempts)]
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    frame.attrs["not_seen"] = not_seen
    return frame


def _below(directory: RunDirectory, top: str, not_seen: list[str]) -> list[tuple[str, os.stat_result]]:
    """Return all that is at and below a name in a run's directory; what goes meanwhile is left out."""
    found = []
    try:
        found.append((top, os.lstat(directory.path / top)))
        found += [(f"{top}/{path}", status) for path, status in walk_inside(directory.path, top)]
    except FileNotFoundError:
        pass
    except UnsafeFileError:
        pass  # a file, or a link, which is not followed
    except OSError as error:
        not_seen.append(f"{error.filename}: {error.strerror}")
    return found


def _place_of(path: str, functions: dict[tuple[int, str], str]) -> tuple[_Place, bool]:
    """Return what a path below a run's directory belongs to, and whether it is the directory of an attempt."""
    parts = path.split("/")
    if parts[0] != "operators":
        return _Place({"files": "kept files", "archives": "archives"}.get(parts[0], "the run")), False
    if len(parts) > 2 and (named := _ATTEMPT.match(parts[2])):
        function = functions.get((int(named[1]), named[2]), "")
        return _Place("attempts", parts[1], function), len(parts) == 3
    return _Place("operators", parts[1] if len(parts) > 1 else ""), False
