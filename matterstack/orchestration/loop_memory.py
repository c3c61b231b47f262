"""The memory of a loop from one tick to the next, which a single tick does without."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from matterstack.core.attempts import Submitted


@dataclass
class LoopMemory:
    """Of a loop that makes its next tick within a moment; whoever does not have it loses nothing.

    Attributes
    ----------
    replies : dict of str to Submitted
        By token, which submissions succeeded, where the store is told at the next tick only, so
        that both take one commit. Without this, `Operator.find` is asked.
    ask_again_at : dict of str to float
        By operator, from when on it may be asked again, as `time.monotonic` counts.
    waits_for_limit : bool
        Whether a limit of the workspace keeps tasks from starting: whoever gives some back wakes nobody.
    """

    replies: dict[str, Submitted] = field(default_factory=dict)
    ask_again_at: dict[str, float] = field(default_factory=dict)
    waits_for_limit: bool = False

    def take_replies(self) -> dict[str, Submitted]:
        """Return the replies, and forget them: whatever becomes of this tick, the next one can ask the operator."""
        told, self.replies = self.replies, {}
        return told

    def may_only_poll_files(self, operator: str) -> bool:
        """Return whether it is too early to ask an operator."""
        return time.monotonic() < self.ask_again_at.get(operator, 0.0)

    def note_asked(self, operator: str, poll_s: float) -> None:
        """Remember that an operator was asked, and shall not be for a while."""
        self.ask_again_at[operator] = time.monotonic() + poll_s
