"""Verification: every file that a run's record names, looked for and hashed; what is not as the record says."""

from __future__ import annotations

import functools
import json
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from matterstack.core.attempt_files import MACHINERY
from matterstack.core.strict_json import MAX_BYTES, parse_json
from matterstack.core.task import RESULT
from matterstack.core.text import neutral
from matterstack.errors import InvalidJsonError, UnsafeFileError
from matterstack.evidence.answers import answer_of, is_answered, says_otherwise
from matterstack.evidence.attempt_files import AttemptFiles, as_object, sum_of
from matterstack.evidence.kept_files import kept_of, parts_of
from matterstack.evidence.laid_out import laid_out
from matterstack.evidence.left_out import LeftOut
from matterstack.evidence.sums import SUMS, is_evidence, sums_of
from matterstack.files import walk_inside
from matterstack.orchestration import campaigns
from matterstack.orchestration.cleaning import why_gone
from matterstack.orchestration.session import Session
from matterstack.storage.rows import AttemptRecord, LinkRow

if TYPE_CHECKING:
    import pandas as pd

#: How a file may stand. The first two are as the record says, and the next three are not.
OK, PACKED, MISSING, CHANGED, UNREADABLE = "as recorded", "packed", "missing", "changed", "unreadable"
CLEANED, LEFT_OUT, NOT_HASHED, COPY = "cleaned", "left out", "not hashed", "copy differs"
_WRONG = frozenset({MISSING, CHANGED, UNREADABLE})
_MANIFEST_BYTES = 50_000_000
_SHOWN = 20
_MEANS = {
    OK: "as recorded",
    PACKED: "as recorded, in archives",
    MISSING: "missing",
    CHANGED: "changed",
    UNREADABLE: "cannot be read",
    CLEANED: "removed on purpose",
    LEFT_OUT: "left out of this export",
    NOT_HASHED: "there, and never hashed",
    COPY: "unlike what was given, as an attempt's own copy may be",
}


class Checked(NamedTuple):
    """A file that the record names, and how it stands.

    Attributes
    ----------
    attempt : str
        As ``0.relax.1``; empty for a file of the run itself.
    kind : str
        ``output``, ``input``, ``answer``, ``kit``, ``kept``, ``campaign``, ``archive`` or ``directory``; of an
        export also ``evidence``.
    path : str
        From the run's directory on.
    status : str
    why : str
        What is to be said of it.
    sha256, found : str
        As recorded, and as it is; empty where unknown.
    """

    attempt: str
    kind: str
    path: str
    status: str
    why: str = ""
    sha256: str = ""
    found: str = ""


class Verification:
    """What `Run.verify` has found; true where every file is there and as the record says, or was removed on purpose.

    Parameters
    ----------
    run_id : str
    checked : iterator of Checked

    Attributes
    ----------
    run_id : str
    counts : dict of str to int
        How many files stand how.
    differ : list of Checked
        The files that are not simply there and as recorded.
    """

    def __init__(self, run_id: str, checked: Iterator[Checked]) -> None:
        self.run_id = run_id
        counts: Counter[str] = Counter()
        self.differ: list[Checked] = []
        for one in checked:
            counts[one.status] += 1
            if one.status not in (OK, PACKED):
                self.differ.append(one)
        self.counts = {status: counts[status] for status in _MEANS if counts[status]}

    def __bool__(self) -> bool:
        return _WRONG.isdisjoint(self.counts)

    @property
    def frame(self) -> pd.DataFrame:
        """A row per file that is not simply there and as recorded: what it is, where, how it stands, and hashes."""
        import pandas as pd

        return pd.DataFrame(self.differ, columns=list(Checked._fields)).set_index("attempt")

    @property
    def headline(self) -> str:
        """What was found, in a sentence."""
        total = sum(self.counts.values())
        said = ", ".join(f"{number} {_MEANS[status]}" for status, number in self.counts.items())
        verdict = "all is as recorded" if self else "NOT as recorded"
        return neutral(f"Run {self.run_id}: {verdict}. Of {total} files that the record names: {said or 'none'}.")

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        differ = [one._asdict() for one in self.differ]
        return {"run_id": self.run_id, "as_recorded": bool(self), "counts": self.counts, "differ": differ}

    def _listed(self) -> list[Checked]:
        """Return what is shown: what is wrong first."""
        return sorted(self.differ, key=lambda one: one.status not in _WRONG)[:_SHOWN]

    def __repr__(self) -> str:
        lines = [self.headline]
        lines += [f"  {one.status}: {one.path}{f' ({one.why})' if one.why else ''}" for one in self._listed()]
        if len(self.differ) > _SHOWN:
            lines.append(f"  and {len(self.differ) - _SHOWN} more in .frame")
        return neutral("\n".join(lines))

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{escape(neutral(text))}</td>" for text in row) + "</tr>"
            for row in ((one.status, one.path, one.why) for one in self._listed())
        )
        more = f"<p>and {len(self.differ) - _SHOWN} more in .frame</p>" if len(self.differ) > _SHOWN else ""
        return f"<div><p>{escape(self.headline)}</p><table>{rows}</table>{more}</div>"


def verify(session: Session) -> Verification:
    """Look at every file that the record of a run names; nothing is written. See `Run.verify`."""
    with session.reader.reading():
        run_id = session.reader.run().run_id
        records = list(session.reader.records())
        links = {record.id: session.reader.links_up(record.id) for record in records}
        specs = [spec for _, _, spec in session.reader.specifications()]
        archives = session.reader.archives()
    looked = _Looked(session)
    return Verification(run_id, looked.all(records, links, specs, archives))


class _Looked:
    """The files of a run, as they are found."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._root = session.directory.path
        self._files = AttemptFiles(session)
        self._left_out = LeftOut(session.directory)
        self._parts = functools.cache(functools.partial(parts_of, session.directory))

    def all(
        self,
        records: list[AttemptRecord],
        links: Mapping[int, list[LinkRow]],
        specs: list[str],
        archives: list[str],
    ) -> Iterator[Checked]:
        for record in records:
            yield from self._attempt(record, links[record.id])
        yield from self._kept(records, specs)
        yield from self._campaign()
        for archive in archives:
            yield self._archive(archive)
        yield from self._evidence()

    # -- of attempts ------------------------------------------------------------------------

    def _attempt(self, record: AttemptRecord, links: list[LinkRow]) -> Iterator[Checked]:
        if record.attempt.status == "COMPLETED" and not self._files.is_there(record):
            yield self._gone(record, "directory", f"{self._files.home(record)}/", "", "")
        for name, sha256, _ in self._files.left(record):
            found = self._file(record, "output", self._files.results(record, name), sha256, name)
            yield self._result(record, found) if name == RESULT else found
        for name, why in as_object(record.not_hashed).items():
            yield self._not_hashed(record, name, str(why))
        yield from self._answer(record)
        yield from self._kit(record)
        yield from self._copies(record, links)

    def _file(self, record: AttemptRecord, kind: str, path: str, sha256: str, name: str = "") -> Checked:
        try:
            found = self._files.sum(record, path)
        except FileNotFoundError:
            return self._gone(record, kind, path, sha256, name)
        except (UnsafeFileError, OSError) as error:
            return Checked(record.name, kind, path, UNREADABLE, str(error), sha256)
        if found != sha256:
            return Checked(record.name, kind, path, CHANGED, "", sha256, found)
        return Checked(record.name, kind, path, PACKED if self._files.archive_of(record) else OK, "", sha256, found)

    def _result(self, record: AttemptRecord, found: Checked) -> Checked:
        """Return how ``result.json`` stands, from which the database has the data that tables and reports show."""
        if (
            found.status not in (OK, PACKED)
            or record.attempt.status != "COMPLETED"
            or is_answered(self._session, record)
        ):
            return found
        try:
            content = self._files.read(record, found.path, MAX_BYTES)
            is_same = parse_json(content) == json.loads(record.attempt.data or "{}")
        except (UnsafeFileError, OSError, ValueError, RecursionError):
            is_same = False
        return found if is_same else found._replace(status=CHANGED, why="the database has another result")

    def _gone(self, record: AttemptRecord, kind: str, path: str, sha256: str, name: str) -> Checked:
        row = record.attempt
        if why := why_gone(self._session.reader, row.iteration, row.task_id, row.attempt, name):
            return Checked(record.name, kind, path, CLEANED, why, sha256)
        return Checked(record.name, kind, path, *self._absent(path), sha256)

    def _absent(self, path: str) -> tuple[str, str]:
        """Return how a file stands that is not there, and why."""
        one = self._left_out.find(path)
        if one is None:
            return MISSING, ""
        return (UNREADABLE, f"the export could not take it along: {one.why}") if one.wanted else (LEFT_OUT, one.why)

    def _not_hashed(self, record: AttemptRecord, name: str, why: str) -> Checked:
        path = self._files.results(record, name)
        try:
            found = self._files.sum(record, path)
        except FileNotFoundError:
            return self._gone(record, "output", path, "", name)
        except (UnsafeFileError, OSError) as error:
            return Checked(record.name, "output", path, UNREADABLE, str(error))
        return Checked(record.name, "output", path, NOT_HASHED, why, "", found)

    def _answer(self, record: AttemptRecord) -> Iterator[Checked]:
        if not is_answered(self._session, record) or not self._files.is_there(record):
            return
        verdict = f"{self._files.home(record)}/{MACHINERY}/verdict.json"
        try:
            answer = answer_of(self._files, record)
            if answer is None:
                if record.attempt.status == "COMPLETED":
                    yield self._gone(record, "answer", verdict, "", "")
                return
            yield Checked(record.name, "answer", verdict, PACKED if self._files.archive_of(record) else OK)
            if not answer.path:
                return
            kept = self._file(record, "answer", answer.path, answer.sha256)
            content = self._files.read(record, answer.path, MAX_BYTES) if kept.status in (OK, PACKED) else None
            if content is not None and says_otherwise(record, answer, content):
                kept = kept._replace(status=CHANGED, why="the database has another answer")
            yield kept
        except (UnsafeFileError, OSError) as error:
            yield Checked(record.name, "answer", verdict, CHANGED, str(error))

    def _kit(self, record: AttemptRecord) -> Iterator[Checked]:
        operator = self._session.operators.get(record.attempt.operator)
        if operator is None or not operator.traits.script or not operator.traits.by_people:
            return
        if not self._files.is_there(record):
            return
        path = f"{self._files.home(record)}/MANIFEST.json"
        try:
            said: Any = parse_json(self._files.read(record, path, _MANIFEST_BYTES), max_bytes=_MANIFEST_BYTES)
            parts = {str(name): str(sha256) for name, sha256 in said["sha256"].items()}
            if said["token"] != record.attempt.token:
                raise UnsafeFileError("it is of another kit")
        except FileNotFoundError:
            if record.attempt.status != "SUBMITTING":
                yield self._gone(record, "kit", path, "", "MANIFEST.json")
            return
        except (UnsafeFileError, OSError, InvalidJsonError, LookupError, TypeError, AttributeError) as error:
            yield Checked(record.name, "kit", path, CHANGED, f"it is not as it was made: {error}")
            return
        for name, sha256 in parts.items():
            if name == "HOWTO.txt":
                continue  # its words are others once the results are home
            yield self._file(record, "kit", f"{self._files.home(record)}/{name}", sha256, name)

    def _copies(self, record: AttemptRecord, links: list[LinkRow]) -> Iterator[Checked]:
        """Yield copies of inputs that are not what was given: whatever ran may have changed its own."""
        wanted = {name: one.sha256 for one in links if (name := _copy(one)) and one.sha256}
        wanted |= laid_out(record, self._parts)
        for name, sha256 in wanted.items():
            path = f"{self._files.home(record)}/{name}"
            try:
                found = self._files.sum(record, path)
            except (FileNotFoundError, UnsafeFileError, OSError):
                continue  # it was moved; and a kit has it elsewhere, where its manifest tells
            if found != sha256:
                yield Checked(
                    record.name, "input", path, COPY, "changed since, by a handler, or by what ran", sha256 or "", found
                )

    # -- of the run -------------------------------------------------------------------------

    def _kept(self, records: list[AttemptRecord], specs: list[str]) -> Iterator[Checked]:
        """Yield what the run keeps by its content: files from outside, programs, large arguments."""
        for sha256, kind in kept_of(self._session.directory, [*(record.spec for record in records), *specs]).items():
            yield self._of_run(kind, f"files/{sha256}", sha256)

    def _of_run(self, kind: str, path: str, sha256: str = "") -> Checked:
        try:
            found = sum_of(self._root, path)
        except FileNotFoundError:
            return Checked("", kind, path, *self._absent(path), sha256)
        except (UnsafeFileError, OSError) as error:
            return Checked("", kind, path, UNREADABLE, str(error), sha256)
        return Checked("", kind, path, CHANGED if sha256 and found != sha256 else OK, "", sha256, found)

    def _campaign(self) -> Iterator[Checked]:
        reference = self._session.directory.read_config().get("campaign")
        if not isinstance(reference, str) or not campaigns.is_stored(reference):
            return
        folder = campaigns.folder_of(reference)
        there = self._beside(folder)
        sums = campaigns.sums_of(self._session.directory)
        if sums is None:  # of an earlier version: only what is called by its content can be told
            names = {campaigns.ABOUT, campaigns.TEXT, *there}
            sums = {name: PurePosixPath(name).stem if name.startswith("arrays/") else "" for name in names}
        for name, sha256 in sorted(sums.items()):
            found = self._of_run("campaign", f"{folder}/{name}", sha256)
            if found.status == OK and not sha256:
                found = found._replace(status=NOT_HASHED, why="the version that kept it took no sums")
            yield found
        for name in sorted(there - sums.keys()):
            yield Checked("", "campaign", f"{folder}/{name}", CHANGED, "it was added after the campaign was kept")

    def _beside(self, folder: str) -> set[str]:
        """Return the plain files in the folder of the campaign; a module there would be imported by it."""
        try:
            found = [path for path, one in walk_inside(self._root, folder) if stat.S_ISREG(one.st_mode)]
        except (OSError, UnsafeFileError):
            return set()
        return {path for path in found if "__pycache__" not in path.split("/")}

    def _evidence(self) -> Iterator[Checked]:
        """Yield what an export says of its run, which stays as it is where the run goes on."""
        try:
            sums = sums_of(self._root)
        except FileNotFoundError:
            if self._left_out.is_export:
                yield Checked("", "evidence", SUMS, MISSING)
            return
        except (UnsafeFileError, OSError) as error:
            yield Checked("", "evidence", SUMS, CHANGED, str(error))
            return
        for path, sha256 in sums.items():
            if is_evidence(path):
                yield self._of_run("evidence", path, sha256)

    def _archive(self, archive: str) -> Checked:
        try:
            torn = [path for path, sha256 in self._files.sums_in(archive).items() if sha256 is None]
        except (UnsafeFileError, OSError) as error:
            if self._left_out.find(archive) is not None:
                return Checked("", "archive", archive, *self._absent(archive))
            is_there = (self._root / archive).exists()
            return Checked("", "archive", archive, UNREADABLE if is_there else MISSING, str(error))
        if torn:
            why = f"{len(torn)} files in it are not what was put into it, as {PurePosixPath(torn[0]).name}"
            return Checked("", "archive", archive, CHANGED, why)
        return Checked("", "archive", archive, OK)


def _copy(link: LinkRow) -> str:
    """Return where a copy of an input lies in the directory of its attempt; empty for what is no file there."""
    if link.name == "inputs.json" or link.name.startswith("show/"):
        return ""
    return f"{link.name}/{link.path}" if link.name.startswith("values/") else link.name
