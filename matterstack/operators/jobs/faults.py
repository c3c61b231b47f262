"""Faults of a file system: those of one attempt's directory, and those of the disk below all of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from matterstack.core.attempts import Attempt
from matterstack.errors import OperatorUnreachableError, UnsafeFileError
from matterstack.files import is_machine_trouble

log = logging.getLogger("matterstack.operators.jobs.faults")


@contextmanager
def cannot_tell(what: str) -> Iterator[None]:
    """Surround writes of our own: a fault of the disk is no fault of the attempt, and they are tried again.

    Raises
    ------
    OperatorUnreachableError
        In place of such a fault.
    """
    try:
        yield
    except OSError as error:
        if is_machine_trouble(error):
            raise OperatorUnreachableError(f"{what} cannot be written now: {error}") from error
        raise


@contextmanager
def spoilt(attempt: Attempt) -> Iterator[None]:
    """Surround what is noted in the directory of one attempt: whatever was done to that, others have their turn."""
    try:
        yield
    except (OSError, UnsafeFileError) as error:
        log.warning("nothing can be noted in %s: %s", attempt.directory, error)
