"""Scratch: files of an attempt that nobody wants once the tasks behind it are over, as a task names them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from matterstack.core.attempt_files import Family, taken_names
from matterstack.errors import InvalidTaskError

_MOST_PATTERNS, _LONGEST = 100, 255
_OURS = taken_names(*Family)


def check_scratch(task_id: str, patterns: Sequence[str], outputs: Sequence[str], *, is_call: bool) -> None:
    """Refuse patterns that lead elsewhere, or that match what has to stay.

    Parameters
    ----------
    task_id : str
    patterns : sequence of str
    outputs : sequence of str
        What the task declares.
    is_call : bool
        Whether it calls a function.

    Raises
    ------
    InvalidTaskError
        Naming the pattern.
    """
    if len(patterns) > _MOST_PATTERNS:
        raise InvalidTaskError(f"task {task_id!r}: scratch has {_MOST_PATTERNS} patterns at most", task_id=task_id)
    kept = [*outputs, *sorted(taken_names(Family.EVERY, *([Family.CALL] if is_call else [])))]
    for pattern in patterns:
        parts = pattern.split("/")
        if not pattern or len(pattern) > _LONGEST or any(part in ("", ".", "..") for part in parts):
            raise InvalidTaskError(
                f"task {task_id!r}: scratch {pattern!r} must be a pattern below the attempt's directory, as in '*.tmp' "
                "or 'work/*.chk'",
                task_id=task_id,
            )
        beginning = parts[0].casefold()
        taken = next((name for name in kept if is_scratch([pattern], name) or name.casefold() == beginning), None)
        if taken is not None:
            what = "an output of it" if taken in outputs else "a name of the run's own"
            raise InvalidTaskError(
                f"task {task_id!r}: scratch {pattern!r} would remove {taken}, {what}: name what may go more narrowly",
                task_id=task_id,
            )


def is_scratch(patterns: Sequence[str], path: str) -> bool:
    """Return whether a path, or a folder that it is in, is named by one of the patterns.

    A pattern is read from the attempt's directory on: ``*`` stands for any part of one name, ``**`` for any folders.

    Examples
    --------
    >>> [is_scratch(["*.tmp", "**/core", "work"], path) for path in ("a.tmp", "b/a.tmp", "b/c/core", "work/x/y")]
    [True, False, True, True]
    """
    parts = path.split("/")
    return any(
        _matches(pattern.split("/"), parts[:depth]) for pattern in patterns for depth in range(1, len(parts) + 1)
    )


def may_be_removed(patterns: Sequence[str], outputs: Sequence[str], path: str) -> bool:
    """Return whether a path is scratch, and neither an output nor a name of the run's own, in whatever letters."""
    return path.split("/")[0].casefold() not in _OURS and path not in outputs and is_scratch(patterns, path)


def _matches(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Return whether a pattern names exactly this path; each pair of their rests is looked at once."""
    reached = {0}
    for part in [*parts, None]:
        # `**` may stand for nothing.
        for at in sorted(reached):
            while at < len(pattern) and pattern[at] == "**":
                at += 1
                reached.add(at)
        if part is None:
            break
        reached = {
            to
            for at in reached
            if at < len(pattern)
            for to in ([at] if pattern[at] == "**" else [at + 1] if fnmatchcase(part, pattern[at]) else [])
        }
    return len(pattern) in reached
