"""The program that makes the SHA-256 of large files of a kit, apart from whoever steps the run.

``sum_files.py DIRECTORY NAME...`` looks at files below ``DIRECTORY/output`` and notes their sums in
``DIRECTORY/.matterstack/sums.json``: by name, the state that a file had, its SHA-256, and why it could not be read. It
detaches itself at once, and of several at one kit one works. It imports nothing of the package.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys

PIECE_BYTES = 1 << 20


def stamp(status: os.stat_result) -> str:
    """Return what changes when a file is written."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def open_below(root: str, name: str) -> int:
    """Open a file below a directory, following no link on the way."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(root, flags)
    *folders, last = name.split("/")
    try:
        for part in folders:
            inner = os.open(part, flags, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)


def digest_of(descriptor: int) -> tuple[str, str]:
    """Return the state of an open file and its SHA-256, both of one moment; close it.

    Raises
    ------
    OSError
        It cannot be read, or was written meanwhile.
    """
    with open(descriptor, "rb", buffering=0) as file:
        before = stamp(os.fstat(descriptor))
        digest = hashlib.sha256()
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            if os.fstat(descriptor).st_nlink == 0:
                raise OSError("it was removed")
        if stamp(os.fstat(descriptor)) != before:
            raise OSError("it was written while it was read")
    return before, digest.hexdigest()


def read_notes(place: str) -> dict[str, list[str]]:
    """Return what was noted before."""
    try:
        with open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            notes = json.loads(file.read(50_000_000))
        return {name: note for name, note in notes.items() if isinstance(note, list)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def write_notes(place: str, notes: dict[str, list[str]]) -> None:
    """Write notes whole."""
    partial = f"{place}.{os.getpid()}.partial"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with open(descriptor, "w") as file:
        json.dump(notes, file)
    os.rename(partial, place)


def main(directory: str, names: list[str]) -> None:
    """Make the sums, unless another process does."""
    import fcntl

    machinery = f"{directory}/.matterstack"
    lock = os.open(
        f"{machinery}/sums.lock", os.O_RDWR | os.O_NONBLOCK | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
    )
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    place = f"{machinery}/sums.json"
    write_notes(place, read_notes(place))  # where nothing can be noted, nothing is read
    for name in names:
        try:
            state = stamp(os.lstat(f"{directory}/output/{name}"))
        except OSError:
            continue  # gone since
        try:
            note = [*digest_of(open_below(f"{directory}/output", name)), ""]
        except OSError as error:
            note = [state, "", error.strerror or str(error)]
        write_notes(place, {**read_notes(place), name: note})


if __name__ == "__main__":
    if os.fork():
        os._exit(0)
    os.setsid()
    main(sys.argv[1], sys.argv[2:])
