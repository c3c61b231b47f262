"""The memory of notices: what has to be known of those that were told for the next ones, as the journal has it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from matterstack.core.numbers import is_number
from matterstack.notices import outbox
from matterstack.notices.outbox import Errand
from matterstack.storage.rows import ToldRow


class OpenErrand(NamedTuple):
    """The sending of a notice to a sink that is not over: the attempt that is next, and when it may begin."""

    number: int
    sink: int
    attempt: int
    name: str
    not_before: float

    @property
    def errand(self) -> Errand:
        """The attempt that is next."""
        return Errand(self.number, self.sink, self.attempt)


@dataclass
class Memory:
    """What has to be known of notices for the next ones; it stands in the journal with the last word on them.

    Attributes
    ----------
    number : int
        Of the last notice.
    looked : int
        The last event that was looked at.
    open : list of OpenErrand
    lost : list of (int, str, str)
        Of notices that did not reach a sink, the last ones: number, name of the sink, and why.
    suspended : list of str
        Operators of which it was told that nothing new goes to them.
    budget : mapping or None
        The budget of which it was told that it is nearly spent.
    moved : int
        The last event that says something of the run.
    moved_at : float
    still : int
        That event when it was told last that nothing moves.
    asked_at : float
        When it was told last that requests wait.
    quiet_until : float
    """

    number: int = 0
    looked: int = 0
    open: list[OpenErrand] = field(default_factory=list)
    lost: list[tuple[int, str, str]] = field(default_factory=list)
    suspended: list[str] = field(default_factory=list)
    budget: dict[str, Any] | None = None
    moved: int = 0
    moved_at: float = 0.0
    still: int = -1
    asked_at: float = 0.0
    quiet_until: float = 0.0

    @classmethod
    def of(cls, told: ToldRow, run: str) -> Memory:
        """Return what the journal holds; where that makes no sense, begin anew from here on.

        Parameters
        ----------
        told : ToldRow
        run : str
            The run's directory: no number of a notice is used twice.
        """
        if not told.told:
            return cls()
        try:
            said = json.loads(told.memory or "")
            numbers = [value for name, value in said.items() if isinstance(getattr(cls, name, None), int | float)]
            if not all(map(is_number, numbers)) or said["number"] < 0:
                raise TypeError("a number is none")
            return cls(
                **{
                    **said,
                    "open": [
                        OpenErrand(int(n), int(s), int(a), str(name), float(at)) for n, s, a, name, at in said["open"]
                    ],
                    "lost": [(int(number), str(name), str(why)) for number, name, why in said["lost"]],
                    "suspended": [str(name) for name in said["suspended"]],
                }
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls(number=outbox.last_number(run), looked=told.seq)

    def text(self) -> str:
        """Return it as JSON text."""
        return json.dumps(asdict(self))
