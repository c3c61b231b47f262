"""A border around code of others: what it raises inside ends there, and is kept."""

from __future__ import annotations

import traceback
from types import TracebackType

from matterstack.errors import MatterstackError


class Captured:
    """A block of somebody else's code, and what it raised; made by `capture`."""

    def __init__(self) -> None:
        self.error: Exception | SystemExit | None = None

    def __enter__(self) -> Captured:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(value, Exception | SystemExit):
            self.error = value
            return True
        return False


def capture() -> Captured:
    """Run a block of somebody else's code, and of nobody else's; any exception of it becomes ``error``.

    An interrupt passes: it is the user's, not the code's. That the code wants to end the process is its error.

    Examples
    --------
    >>> with capture() as caught:
    ...     1 / 0
    >>> caught.error
    ZeroDivisionError('division by zero')
    """
    return Captured()


def describe(error: Exception | SystemExit) -> str:
    """Return one of our errors as its message, and any other with its traceback."""
    if isinstance(error, MatterstackError):
        return str(error)
    return "".join(traceback.format_exception(error))
