"""Packing: putting attempts of iterations that are over into archives, from which all that reads them reads on."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from matterstack import interrupts
from matterstack.core.changes import Packed
from matterstack.core.strict_json import to_text
from matterstack.core.text import neutral
from matterstack.crash_points import reach
from matterstack.errors import UnsafeFileError
from matterstack.files import list_inside, needing_disk, remove_inside, rename_inside
from matterstack.orchestration.session import Session
from matterstack.storage import archives
from matterstack.storage.archives import Archive, Content
from matterstack.storage.state_store import SQLiteStateStore

if TYPE_CHECKING:
    import pandas as pd

    from matterstack.storage.rows import OverAttempt

#: What the directory of an attempt is called that is in an archive, while it is removed.
_GOING = ".packed."
_OPERATOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class PackedIteration(NamedTuple):
    """What was packed of an iteration.

    Attributes
    ----------
    iteration : int
    archive : str
        From the run's directory on.
    attempts, files : int
    bytes : int
        That the files took.
    archive_bytes : int
        That the archive takes.
    """

    iteration: int
    archive: str
    attempts: int
    files: int
    bytes: int
    archive_bytes: int


class Packing(Sequence[PackedIteration]):
    """What `Run.pack` has done; shown as a table.

    Parameters
    ----------
    packed : sequence of PackedIteration
    left : sequence of str
        Which attempts were left as they are, and why.
    """

    def __init__(self, packed: Sequence[PackedIteration], left: Sequence[str]) -> None:
        self._packed = tuple(packed)
        self.left = tuple(left)

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, index: Any) -> Any:
        return self._packed[index]

    @property
    def frame(self) -> pd.DataFrame:
        """A row per archive."""
        import pandas as pd

        return pd.DataFrame(self._packed, columns=list(PackedIteration._fields)).set_index("iteration")

    def __repr__(self) -> str:
        lines = [
            f"{one.attempts} attempts of iteration {one.iteration} are in {one.archive}: {one.files} files of "
            f"{one.bytes} bytes became one of {one.archive_bytes}"
            for one in self._packed
        ] or ["There is nothing to pack: attempts of earlier iterations are, once they are over."]
        return neutral("\n".join([*lines, *(f"  left: {text}" for text in self.left)]))


def pack(session: Session) -> Packing:
    """Put the attempts of earlier iterations into archives; see `Run.pack`.

    The run's lock is held for one iteration after the other.
    """
    packed: list[PackedIteration] = []
    left: list[str] = []
    way_out = "and pack again; nothing was lost"
    with needing_disk(f"the attempts of {session.directory.path} cannot be packed", way_out):
        with session.locked() as store:
            current = store.run().iteration
            _sweep(session, store, left)
        for iteration in range(current):
            with session.locked() as store:
                done = _pack_iteration(session, store, iteration, left)
            if done is not None:
                packed.append(done)
    return Packing(packed, left)


def _place(one: OverAttempt) -> str:
    return f"operators/{one.operator}/{one.name}"


def _sweep(session: Session, store: SQLiteStateStore, left: list[str]) -> None:
    """Finish what a pack that was killed has begun."""
    directory = session.directory
    archives.sweep(directory, store.archives())
    for operator in _names(session, "operators"):
        if not _OPERATOR.match(operator):
            continue
        for name in _names(session, f"operators/{operator}"):
            if name.startswith(_GOING):
                remove_inside(directory.path, f"operators/{operator}/{name}")
    for one, archive in store.packed_attempts():
        if os.path.lexists(directory.path / _place(one)):
            if archives.same_as_packed(directory, archive, _place(one)):
                _take_away(session, one)
            else:
                left.append(f"{one.name} is in {archive}, and its directory is there, and is not the same")


def _names(session: Session, folder: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError, UnsafeFileError):
        return [name for name, _ in list_inside(session.directory.path, folder)]
    return []


def _pack_iteration(
    session: Session, store: SQLiteStateStore, iteration: int, left: list[str]
) -> PackedIteration | None:
    attempts = [one for one in store.attempts_to_pack(iteration) if (session.directory.path / _place(one)).is_dir()]
    if not attempts:
        return None
    archive = Archive(session.directory)
    try:
        contents: dict[int, Content] = {}
        for one in attempts:
            with interrupts.heard():
                try:
                    contents[one.id] = archive.add(_place(one))
                except (UnsafeFileError, FileNotFoundError) as error:
                    left.append(f"{one.name}: {error}")
            reach("pack.added")
        if not contents:
            return None
        name = archive.finish(iteration)
    finally:
        archive.close()
    inside = [one for one in attempts if one.id in contents]
    changed = [one for one in inside if not archives.is_unchanged(session.directory, contents[one.id])]
    left += [f"{one.name} was changed while it was packed" for one in changed]
    inside = [one for one in inside if one not in changed]
    at = time.time()
    said = to_text({"archive": name})
    with store.act():
        store.note_packed(
            [Packed(one.id, one.task, one.status, at, f"packed into {name}", name, said) for one in inside]
        )
    reach("pack.noted")
    for one in inside:
        _take_away(session, one)
    some = [contents[one.id] for one in inside]
    size = (session.directory.path / name).stat().st_size
    return PackedIteration(
        iteration, name, len(inside), sum(one.files for one in some), sum(one.bytes for one in some), size
    )


def _take_away(session: Session, one: OverAttempt) -> None:
    """Remove a directory that is in an archive: for whoever looks, it is there as a whole or not at all."""
    going = f"operators/{one.operator}/{_GOING}{one.name}"
    rename_inside(session.directory.path, _place(one), going)
    reach("pack.renamed")
    remove_inside(session.directory.path, going)
    reach("pack.removed")
