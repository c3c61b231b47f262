"""Where code of others is called: what it raises inside ends here, and is kept."""

from __future__ import annotations

import traceback
from types import TracebackType

from matterstack.errors import MatterstackError


class Border:
    """Run a block of somebody else's code; any exception of it becomes `error`.

    An interrupt passes: it is the user's, not the code's.

    Examples
    --------
    >>> with Border() as border:
    ...     1 / 0
    >>> border.error
    ZeroDivisionError('division by zero')
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> Border:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(value, Exception):
            self.error = value
            return True
        return False


def describe(error: Exception) -> str:
    """Return one of our errors as its message, and any other with its traceback."""
    if isinstance(error, MatterstackError):
        return str(error)
    return "".join(traceback.format_exception(error))
