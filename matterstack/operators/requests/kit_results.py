"""The results of a kit that came home, and what they mean. Everything is looked at without following links.

Results arrive slowly, in any order and twice, by programs and people that change names, leave files out and add some.
What may still be a transfer under way is told apart from what cannot become right by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from matterstack.core.identifiers import check_relative_path
from matterstack.core.litter import is_litter
from matterstack.errors import InvalidJsonError, UnsafeFileError, UnsafePathError
from matterstack.files import entry_status, is_folder, open_inside, read_inside
from matterstack.operators.requests.kit_ending import Ending, Kind, Problem, not_over, read_ending
from matterstack.operators.requests.kit_sums import Sums
from matterstack.operators.requests.sum_files import stamp

OUTPUT = "output"
#: Names that file transfer programs give a file they are still writing: rsync's ``.NAME.XXXXXX``
#: (rsync(1), --inplace), WinSCP's ``.filepart``, browsers' ``.part`` and ``.crdownload``.
_PARTIAL = re.compile(
    r"\..+\.[A-Za-z0-9]{4,8}\Z|.+\.(part|filepart|partial|crdownload|tmp)\Z|\.~tmp~\Z|\.rsync-partial\Z"
)
#: How long something lies still before it is taken, or refused, as it is.
_SETTLE_S = 2.0
#: Programs that copy write pieces of more than this: a file of so few bytes is no half of one.
_ONE_PIECE_BYTES = 4096
_MOST_FILES = 100_000
_MOST_SUMS_BYTES = 50_000_000
_SUM = re.compile(r"(\\?)([0-9A-Fa-f]{64}) [ *](.+)\Z", re.DOTALL)
_ESCAPES = re.compile(r"\\(.)", re.DOTALL)
_OF_NOTHING = hashlib.sha256().hexdigest()
_ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")
_NAMES = (OUTPUT, "output.sha256", "status.json", "done")


class Came(NamedTuple):
    """What was found of a kit's results.

    Attributes
    ----------
    ending : Ending
    problem : Problem or None
        Why the results cannot be taken as they are.
    anything : bool
        Whether anything came.
    state : str
        Changes when anything changes.
    changed_at : float
        When a file changed last, in seconds since the Unix epoch.
    names : dict of str to str
        Files whose names changed on the way: as they are called now, and as they were called.
    """

    ending: Ending
    problem: Problem | None
    anything: bool
    state: str = ""
    changed_at: float = 0.0
    names: Mapping[str, str] = MappingProxyType({})

    def rests(self, at: float) -> bool:
        """Return whether it has lain still for a moment. A clock that was set back is not waited for."""
        return not 0 <= at - self.changed_at < _SETTLE_S


class Folder(NamedTuple):
    """What lies in output/: plain files, links and the like, and what cannot be read."""

    files: dict[str, os.stat_result]
    links: list[str]
    unreadable: list[str]


def look(directory: Path, token: str, outputs: Collection[str], sums: Sums, at: float) -> Came:
    """Look at what came home.

    Parameters
    ----------
    directory : pathlib.Path
        Of the kit.
    token : str
        Of its attempt.
    outputs : collection of str
        What the task expects.
    sums : Sums
    at : float
        Now, in seconds since the Unix epoch.

    Raises
    ------
    UnsafeFileError
        There is more than is looked at.
    """
    ending = read_ending(directory, token)
    place = directory / OUTPUT
    if not os.path.lexists(place):
        hint = _hint(directory)
        if ending.problem is not None or ending.status is not None:
            missing = Problem(Kind.ARRIVING, "output/ is not there" + hint)
            held = not_over(directory, ending) if ending.status == "RUNNING" else None
            return Came(ending, ending.problem or held or missing, ending.status is not None)
        return Came(ending, Problem(Kind.HELD, hint.removeprefix("; ")) if hint else None, False)
    if not is_folder(place):
        text = "output is a link or a file, and must be a directory: bring the directory itself (rsync -rtL, cp -RL)"
        return Came(ending, Problem(Kind.HELD, text), True)
    found = scan(place)
    state = hashlib.sha256(f"{ending}{_stamp(directory / 'output.sha256')}".encode(errors="surrogateescape"))
    for name, status in found.files.items():
        state.update(f"{name}\0{stamp(status)}\n".encode(errors="surrogateescape"))
    changed_at = max((status.st_ctime for status in found.files.values()), default=0.0)
    judged = _Results(directory, ending, found, outputs, sums, at - changed_at)
    return Came(ending, judged.problem(), True, state.hexdigest(), changed_at, judged.names)


class _Results:
    """The results of a kit whose output/ is there."""

    def __init__(
        self, directory: Path, ending: Ending, found: Folder, outputs: Collection[str], sums: Sums, age_s: float
    ) -> None:
        self.directory, self.ending, self.sums, self.age_s = directory, ending, sums, age_s
        self.outputs = list(outputs)
        wanted = set(outputs)
        there = {name: status for name, status in found.files.items() if name in wanted or not is_litter(name)}
        self.links, self.unreadable = found.links, found.unreadable
        self.partial = [name for name in there if name not in wanted and _is_partial(name)]
        self.whole = {name: status for name, status in there.items() if name not in set(self.partial)}
        self.listed: dict[str, str] | None = None
        #: As a file is called now, and as it was called.
        self.names: dict[str, str] = {}

    def problem(self) -> Problem | None:
        """Return why the results cannot be taken as they are; None where they can."""
        if self.unreadable:
            return _unreadable(self.unreadable[0])
        if self.ending.problem is not None:
            return self.ending.problem
        if self.ending.status == "RUNNING":
            return not_over(self.directory, self.ending)
        try:
            self.listed = read_sums(self.directory, self.ending.sums)
        except PermissionError:
            return Problem(Kind.HELD, "output.sha256 cannot be read: chmod a+r output.sha256 on the machine it is on")
        except (UnsafeFileError, InvalidJsonError) as error:
            return Problem(Kind.ARRIVING, str(error))
        return self._nothing_whole() or self._match_names() or self._missing() or self._differing() or self._no_word()

    def _nothing_whole(self) -> Problem | None:
        if self.whole:
            return None
        promised = bool(self.ending.sums if self.listed is None else self.listed)
        kind = Kind.ARRIVING if promised else Kind.FINAL
        if self.partial:
            return Problem(kind, f"output/ holds only {_some(self.partial)}, which is half a transfer")
        if self.links:
            return Problem(Kind.ARRIVING, f"output/ holds only links ({_some(self.links)}): {_BRING_ITSELF}")
        return Problem(kind, f"output/ is empty{_hint(self.directory)}")

    def _match_names(self) -> Problem | None:
        """Find files that another system has given another spelling, or another code, of their names."""
        listed = self.listed or {}
        sought = names_lost([*self.outputs, *listed], self.whole)
        if not sought:
            return None
        others = [name for name in self.whole if name not in listed and name not in self.outputs]
        made = self.sums.of(self.directory, self.whole, others) if any(name in listed for name in sought) else None
        if made is not None and made.awaited:
            return _summing(made.awaited)
        self.names = match_names(sought, listed, dict.fromkeys(others, "") if made is None else made.sums)
        for now, before in self.names.items():
            self.whole[before] = self.whole[now]
        return None

    def _missing(self) -> Problem | None:
        listed = self.listed or {}
        # Where the list is still to come, nobody knows what else is.
        kind = Kind.ARRIVING if self.listed is None and self.ending.sums else Kind.FINAL
        for name in self.outputs:
            if name in self.whole:
                if self.whole[name].st_size == 0 and listed.get(name, _OF_NOTHING) == _OF_NOTHING:
                    return Problem(kind, f"the expected output {name} is empty")
            elif name in self.links:
                return Problem(Kind.ARRIVING, f"the expected output {name} is a link: {_BRING_ITSELF}")
            elif name in listed:
                return Problem(Kind.ARRIVING, f"the expected output {name} is missing, and output.sha256 lists it")
            else:
                return Problem(kind, f"the expected output {name} is missing{self._elsewhere(name)}")
        if "result.json" in listed and "result.json" not in self.whole:
            return Problem(Kind.ARRIVING, "result.json is missing, and output.sha256 lists it")
        if self.listed is None and self.ending.sums:
            return Problem(Kind.ARRIVING, "output.sha256 is missing, and status.json says that the kit left it")
        if self.ending.status is None and (half := self._half()):
            return Problem(Kind.FINAL, f"{half} is half a transfer")
        return None

    def _half(self) -> str | None:
        """Return a file that is half a transfer of one that is expected; programs leave others of such names."""
        expected = {name.rpartition("/")[2] for name in (*self.outputs, "result.json")} if self.outputs else {""}
        return next((name for name in self.partial if any(part in name for part in expected)), None)

    def _elsewhere(self, name: str) -> str:
        """Return where else an expected file may lie, as the end of a sentence."""
        for other in self.whole:
            if other.endswith(f"/{name}"):
                return f": there is output/{other}; move what is in output/{other.removesuffix(name)} into output/"
        last = name.casefold()
        for other in self.whole:
            if other.casefold() in (last, f"{last}.txt") and other not in (self.listed or {}):
                return f": there is output/{other}; rename it to {name}"
        return ""

    def _differing(self) -> Problem | None:
        listed = {name: sum_ for name, sum_ in (self.listed or {}).items() if name in self.whole}
        now = {before: name for name, before in self.names.items()}
        made = self.sums.of(self.directory, self.whole, [now.get(name, name) for name in listed])
        if made.unreadable:
            name, why = next(iter(made.unreadable.items()))
            return _unreadable(f"output/{name}", why)
        for name, expected in listed.items():
            found = made.sums.get(now.get(name, name))
            if found is None or found == expected.lower():
                continue
            text = (
                f"{name} is not what the command left: its SHA-256 differs; if it does not change any more, copy it "
                "again (in binary mode)"
            )
            # Some programs write where the file shall be: until it lies still, it may be the half of one.
            small = 0 < self.whole[name].st_size <= _ONE_PIECE_BYTES and self._half() is None
            settled = small or not 0 <= self.age_s < _SETTLE_S
            return Problem(Kind.FINAL if settled else Kind.SUMMING, text)
        if made.awaited:
            return _summing(made.awaited)
        for name in self.outputs:  # those without a sum have to be readable as well
            try:
                os.close(open_inside(self.directory / OUTPUT, now.get(name, name)))
            except PermissionError:
                return _unreadable(f"output/{name}")
        return None

    def _no_word(self) -> Problem | None:
        """Return that nothing says how it ended, where the files alone cannot."""
        if self.ending.status is not None:
            return None
        # What the script of the kit leaves beside the results: then it will have told in status.json how it ended.
        by_script = self.listed is not None or {"stdout.txt", "stderr.txt"} <= self.whole.keys()
        if self.outputs and not by_script:
            return None
        return Problem(
            Kind.HELD,
            "nothing says that the command is over: bring status.json home as well; or, if the kit was run in another "
            f'way and all went well, make an empty file called "done" beside output/{_hint(self.directory)}',
        )


_BRING_ITSELF = "bring the file itself (rsync -L, scp or cp -L)"


def _summing(names: list[str]) -> Problem:
    return Problem(Kind.SUMMING, f"the SHA-256 of output/{_some(names)} is being made")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _unreadable(what: str, why: str = "") -> Problem:
    mode = "a+rx" if what.endswith("/") else "a+r"
    said = f" ({why})" if why else ""
    return Problem(
        Kind.HELD,
        f"{what} cannot be read{said}: whoever owns it runs chmod {mode} {what.rstrip('/')} (or chmod -R a+rX output "
        "for all of it)",
    )


def names_lost(names: Iterable[str], there: Collection[str]) -> list[str]:
    """Return which of some names are not there, and may have changed on the way: those with letters beyond ASCII.

    A name that leads out of the kit is none.
    """
    lost = []
    for name in dict.fromkeys(names):
        if name not in there and not name.isascii():
            with contextlib.suppress(UnsafePathError):
                lost.append(check_relative_path(name, "it lists"))
    return lost


def match_names(sought: Iterable[str], listed: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    r"""Return which files are those that are sought, under names that changed on the way.

    A Macintosh writes an accent as a letter of its own, and many programs that pack archives write names in the code of
    their country.

    Parameters
    ----------
    sought : iterable of str
        Names that are missing.
    listed : mapping of str to str
        SHA-256 of what the command left, by its name.
    others : mapping of str to str
        SHA-256 of files that are there and that nobody has listed; it may be empty.

    Returns
    -------
    dict of str to str
        By the name that a file has now, the one that it had.

    Examples
    --------
    >>> match_names(["caf\u00e9"], {}, {"cafe\u0301": ""}) == {"cafe\u0301": "caf\u00e9"}
    True
    >>> match_names(["caf\u00e9"], {"caf\u00e9": "12ab"}, {"caf_": "12ab"})
    {'caf_': 'café'}
    """
    found: dict[str, str] = {}
    normal = {unicodedata.normalize("NFC", name): name for name in others}
    by_sum: dict[str, list[str]] = {}
    for name, sum_ in others.items():
        by_sum.setdefault(sum_.lower(), []).append(name)
    left = []
    for name in sorted(sought):
        now = normal.get(unicodedata.normalize("NFC", name))
        if now is None or now in found:
            left.append(name)
        else:
            found[now] = name
    for name in left:
        for now in by_sum.get(listed.get(name, "").lower() or "-", ()):
            if now not in found:
                found[now] = name
                break
    return found


def read_sums(directory: Path, promised: str = "") -> dict[str, str] | None:
    """Return what ``output.sha256`` lists, by name; None where there is none.

    Parameters
    ----------
    directory : pathlib.Path
        Of the kit.
    promised : str
        SHA-256 that the file itself has to have; empty where nothing is known of it.

    Raises
    ------
    InvalidJsonError
        It is not what was promised, or a line is none of sha256sum(1).
    UnsafeFileError
        It is no plain file, or too large.
    """
    try:
        raw = read_inside(directory, "output.sha256", _MOST_SUMS_BYTES)
    except FileNotFoundError:
        return None
    if promised and hashlib.sha256(raw).hexdigest() != promised:
        raise InvalidJsonError(
            "output.sha256 is not what the kit left; if it does not change any more, copy it again (in binary mode)"
        )
    listed = {}
    # Bytes that are no UTF-8 are kept, so that they are equal to those of the name on this file system.
    for number, line in enumerate(raw.decode("utf-8", "surrogateescape").split("\n"), 1):
        if not line.strip("\r\ufeff "):
            continue
        match = _SUM.match(line.removeprefix("\ufeff").removesuffix("\r"))
        if match is None:
            raise InvalidJsonError(f"line {number} of output.sha256 is no line of sha256sum: {line[:100]!r}")
        escaped, sum_, name = match.groups()
        if escaped:
            name = _ESCAPES.sub(lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), name)
        name = name.removeprefix("./")
        if not is_litter(name):
            listed[name] = sum_.lower()
    return listed


def scan(root: Path) -> Folder:
    """Return what lies below a directory, by names relative to it; links are not followed.

    Raises
    ------
    UnsafeFileError
        There are too many.
    """
    found = Folder({}, [], [])
    folders = [""]
    number = 0
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    number += 1
                    if number > _MOST_FILES:
                        raise UnsafeFileError(f"{root.name}/ holds more than {_MOST_FILES} files")
                    name = folder + entry.name
                    status = entry_status(entry)
                    if stat.S_ISDIR(status.st_mode):
                        folders.append(f"{name}/")
                    elif stat.S_ISREG(status.st_mode):
                        found.files[name] = status
                    else:
                        found.links.append(name)
        except PermissionError:
            found.unreadable.append(f"{root.name}/{folder}")
        except (FileNotFoundError, NotADirectoryError):
            continue  # changed since: the next look sees it
    return Folder(dict(sorted(found.files.items())), sorted(found.links), sorted(found.unreadable))


def _is_partial(name: str) -> bool:
    return any(_PARTIAL.match(part) for part in name.split("/"))


def _stamp(path: Path) -> str:
    try:
        return stamp(os.lstat(path))
    except OSError:
        return ""


def _hint(directory: Path) -> str:
    """Return what lies in a kit's directory that was nearly right, and what to do, as the end of a sentence."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return ""
    for name in names:
        if name in _NAMES or name.startswith(".") or is_litter(name):
            continue
        plain = re.sub(r"( \(\d+\)| - Copy| copy)?(\.txt)?\Z", "", name).casefold()
        for wanted in _NAMES:
            if plain in (wanted, f"{wanted}s") and name != wanted:
                return f'; there is "{name}": rename it to "{wanted}"'
        if name.casefold().endswith(_ARCHIVES):
            return f'; there is "{name}": have it taken in with run.import_kits("{directory / name}")'
        if os.path.isfile(directory / name / "MANIFEST.json") and name != "inputs":
            return f'; a kit lies inside the kit: move what is in "{name}" one level up, into {directory.name}'
    return ""
