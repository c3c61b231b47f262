"""The base of operators that leave a request in a directory and wait for what is put there."""

from __future__ import annotations

import contextlib
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence

from matterstack.core.attempt_files import MACHINERY
from matterstack.core.attempts import (
    Absent,
    Attempt,
    Observation,
    Refused,
    Seen,
    Submitted,
)
from matterstack.core.states import AttemptStatus
from matterstack.core.task import Task
from matterstack.errors import InvalidTaskError, MatterstackError, UnsafeFileError
from matterstack.files import read_inside, write_inside
from matterstack.operators.base import Operator
from matterstack.operators.requests.check_apart import Patience
from matterstack.operators.requests.notices import Notify, notify_once
from matterstack.operators.requests.request_directory import waits_for

#: A tick may ask several such operators, and holds the run's lock meanwhile.
_CHECKS_S = 0.5
_TOKEN = f"{MACHINERY}/token"


def _carries_token(attempt: Attempt) -> bool:
    try:
        return read_inside(attempt.directory, _TOKEN, 1000) == attempt.token.encode()
    except (FileNotFoundError, UnsafeFileError):
        return False


def refuse_call(task: Task) -> None:
    """Raise `InvalidTaskError` for the call of a function: a person or an instrument runs none."""
    if task.call is not None:
        raise InvalidTaskError(
            f"task {task.task_id!r} calls the function {task.call.function}, and the operator {task.operator!r} runs "
            "none: name another one, as in with_options(operator='local')",
            task_id=task.task_id,
        )


class RequestOperator(Operator):
    """Leave a request, tell whom it is for, and look at its directory at each tick.

    What `prepare` leaves it brings to disk: a person answers to what is seen there, days later.

    Attributes
    ----------
    notify : callable or sequence of str or None
        Told once of each request.
    wants : str
        What is to be put into the directory, in plain words.
    patience : Patience
        How long checks of answers are waited for in this tick; the next one looks at what they have come to since.
    """

    notify: Notify | None = None
    wants: str
    patience: Patience = Patience(0.0)

    def announcement(self, attempt: Attempt) -> str:
        """Return what is told of a new request."""
        return f"{self.wants} is wanted"

    @abstractmethod
    def judge(self, attempt: Attempt, at: float) -> Observation:
        """Look at one request; what it raises is shown, and holds no other request up."""

    def _tell(self, attempt: Attempt) -> None:
        notify_once(self.notify, attempt, "request", self.announcement(attempt))

    def _waiting(self, attempt: Attempt) -> Submitted:
        return Submitted(waits_for=waits_for(attempt, self.wants))

    def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Refused]:
        """Leave the requests where they are, and tell whom they are for."""
        for attempt in attempts:
            # A directory of this name that somebody else has put there does not have it.
            write_inside(attempt.directory, _TOKEN, attempt.token.encode())
            self._tell(attempt)
        return {attempt.token: self._waiting(attempt) for attempt in attempts}

    def find(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Absent]:
        """Look for the directories that were left under these tokens."""
        found: dict[str, Submitted | Absent] = {}
        for attempt in attempts:
            with contextlib.suppress(OSError):  # it cannot be told whether it is there
                found[attempt.token] = self._waiting(attempt) if _carries_token(attempt) else Absent()
        return found

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        """Look at each request."""
        at = time.time()
        self.patience = Patience(_CHECKS_S)
        seen = {}
        for attempt in attempts:
            try:
                self._tell(attempt)
                seen[attempt.token] = self.judge(attempt, at)
            except (OSError, MatterstackError) as error:
                state = Seen.RUNNING if attempt.status is AttemptStatus.RUNNING else Seen.WAITING
                how = f"; chmod -R a+rX {attempt.name}" if isinstance(error, PermissionError) else ""
                seen[attempt.token] = Observation(state, reason=f"its directory cannot be used: {error}{how}")
        return seen
