"""Results that a command left in its directory: its outputs, its data, its last words."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matterstack.core.calls import ERROR
from matterstack.core.strict_json import MAX_BYTES, parse_json
from matterstack.core.text import neutral
from matterstack.errors import SEE, AttemptFailedError, InvalidJsonError, UnsafeFileError
from matterstack.files import is_machine_trouble, open_inside, read_inside, read_tail

_MOST_ERROR_BYTES = 1_000_000
_LONGEST_MESSAGE = 300
#: What is raised where a package is missing or another one than was expected: which Python that was says more then.
_OF_THE_ENVIRONMENT = ("ModuleNotFoundError", "ImportError")


def collect(directory: str, outputs: Iterable[str]) -> Any:
    """Check the outputs of a command that ended well, and return the content of its ``result.json``.

    Raises
    ------
    AttemptFailedError
        An output is missing or no plain file, or ``result.json`` is not strict JSON.
    OSError
        The machine or its disk has a trouble that is not the file's.
    """
    for output in outputs:
        try:
            os.close(open_inside(directory, output))
        except FileNotFoundError:
            raise AttemptFailedError(f"the command ended well, but its output {output} is not there") from None
        except (OSError, UnsafeFileError) as error:
            raise _judged(f"the output {output} cannot be used", error) from None
    return read_result(directory)


def read_result(directory: str) -> Any:
    """Return the content of the ``result.json`` in a directory; ``{}`` where there is none.

    Raises
    ------
    AttemptFailedError
        It is not strict JSON, or no plain file.
    OSError
        The machine or its disk has a trouble that is not the file's.
    """
    if not os.path.lexists(f"{directory}/result.json"):
        return {}  # of most commands
    try:
        return parse_json(read_inside(directory, "result.json", MAX_BYTES))
    except (OSError, UnsafeFileError, InvalidJsonError) as error:
        raise _judged("result.json cannot be used", error) from None


def _judged(what: str, error: Exception) -> Exception:
    """Return what to raise: the machine's trouble as it is, any other as the attempt's end."""
    if isinstance(error, OSError) and is_machine_trouble(error):
        return error
    return AttemptFailedError(f"{what}: {error}")


def last_words(directory: Path) -> str:
    """Return the last line a command wrote to its standard error, as the end of a sentence."""
    line = last_line(directory, "stderr.txt")
    return f"; stderr ends with: {line}" if line else ""


def last_line(directory: Path, output: str) -> str:
    """Return the last line of an output that says something, cut off: the note of an error stands below its message."""
    lines = map(str.strip, reversed(read_tail(directory, output, 2000).splitlines()))
    return next((line[:300] for line in lines if line and not line.startswith(SEE)), "")


def exception_of(directory: Path) -> str | None:
    """Return what a call raised, and where in which function; None where it left no word of that."""
    try:
        said = parse_json(read_inside(directory, ERROR, _MOST_ERROR_BYTES))
        kind, message, function, line = (said[name] for name in ("type", "message", "function", "line"))
    except (OSError, UnsafeFileError, InvalidJsonError, KeyError, TypeError):
        return None
    if not isinstance(kind, str) or not isinstance(message, str):
        return None
    first = neutral(message.strip()).partition("\n")[0][:_LONGEST_MESSAGE]
    text = f"{neutral(kind)[:100]}: {first}" if first else neutral(kind)[:100]
    if isinstance(function, str) and type(line) is int:
        text += f", at {neutral(function)[:100]} line {line}"
    python = said.get("python")
    if kind in _OF_THE_ENVIRONMENT and isinstance(python, dict):
        where = f"Python {python.get('version')}, {python.get('executable')}"
        text += f"; it ran with {neutral(where)[:300]}"
    return text
