"""The teller: who tells of a run in one process, writes notices down, has them sent, and takes in what came of it.

First the file of a notice is written, then the database says that it is due, then somebody is started who sends it. So
whatever is killed in between, the next tick goes on with it: each notice is due once, and who sends it claims it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from matterstack.core.snapshot import RunRecord
from matterstack.crash_points import reach
from matterstack.notices import outbox
from matterstack.notices.outbox import Errand, Standing
from matterstack.notices.sinks import Notify, name_of
from matterstack.orchestration import news as words
from matterstack.orchestration.news import News
from matterstack.orchestration.notice_memory import Memory, OpenErrand
from matterstack.storage.rows import NewsRow, ToldRow
from matterstack.storage.state_store import SQLiteStateStore

if TYPE_CHECKING:
    from matterstack.orchestration.session import Session

#: What could not be sent is tried again after so long, and then given up.
_AGAIN_S = (300.0, 3600.0, 86400.0)
_START_AGAIN_S = 120.0
_MOST_STARTED, _MOST_LOST = 5, 5


def left_s(until: float, at: float, longest_s: float = _AGAIN_S[-1]) -> float:
    """Return how long it is until a time; nothing where the clock was set back since."""
    left = until - at
    return left if 0.0 < left <= longest_s else 0.0


class Teller:
    """Who tells of a run, in one process: what it has looked at already, and whom it has started."""

    def __init__(self) -> None:
        self.memory = Memory()
        #: Up to which event somebody has looked, as the journal has it.
        self.kept = 0
        self._told = -1
        self._started: dict[Errand, float] = {}

    @contextmanager
    def remembering(self, session: Session, told: ToldRow) -> Iterator[Memory]:
        """Yield the memory as it is in the journal, with what this process has looked at since.

        Where the block fails, what it has changed of it is forgotten.
        """
        if told.told != self._told:
            self.memory, self._told = Memory.of(told, str(session.directory.path)), told.told
            self.kept = self.memory.looked
        if not told.is_of_notices:
            self.memory.moved, self.memory.moved_at = told.seq, told.at
        try:
            yield self.memory
        except BaseException:
            self._told = -1
            raise

    def write(self, store: SQLiteStateStore, run: RunRecord, said: Sequence[str], at: float) -> None:
        """Write the memory into the journal, with what there is to say."""
        with store.transaction():
            last = store.note_told(at, str(run.status), said, self.memory.text())
        self._told, self.kept = last, self.memory.looked

    def add(
        self, session: Session, run: RunRecord, news: Sequence[News], notify: Notify, rows: Sequence[NewsRow]
    ) -> str:
        """Write the file of a notice; return what the journal says of it."""
        memory, at = self.memory, time.time()
        secret = words.secret_variables(session.reader, rows) | {*notify.variables}
        notice = words.compose(memory.number + 1, run, str(session.directory.path), news, at, secret)
        outbox.write(session.directory.path, notice, notify.to)
        reach("notices.written")
        memory.number = notice.number
        memory.open += [OpenErrand(notice.number, n, 1, name_of(sink), 0.0) for n, sink in enumerate(notify.to)]
        return f"notice {notice.number}: {notice.title}"

    def start(self, session: Session, at: float) -> None:
        """Start who sends what nobody has claimed yet, a few at a time."""
        now, begun = time.monotonic(), 0
        for one in self.memory.open:
            lately = now - self._started.get(one.errand, -_START_AGAIN_S) < _START_AGAIN_S
            if lately or left_s(one.not_before, at) or begun >= _MOST_STARTED:
                continue
            if outbox.standing(session.directory.path, one.errand).standing is Standing.OPEN:
                begun += 1
                self._started[one.errand] = now
                outbox.start(session.directory.path, one.errand)
                reach("notices.started")

    def settle(self, session: Session, at: float) -> list[str]:
        """Take in what has come of notices that were being sent; return what there is to say of that."""
        said: list[str] = []
        left = []
        for one in self.memory.open:
            if left_s(one.not_before, at):
                left.append(one)
                continue
            outcome = outbox.standing(session.directory.path, one.errand)
            about, why = f"notice {one.number} to {one.name}", outcome.why
            match outcome.standing:
                case Standing.SENT:
                    said.append(f"{about}: sent")
                    self.memory.lost = [lost for lost in self.memory.lost if lost[1] != one.name]
                case Standing.FAILED if one.attempt <= len(_AGAIN_S):
                    after_s = _AGAIN_S[one.attempt - 1]
                    said.append(f"{about}: could not be sent ({why}); it is tried again in {after_s / 60:g} minutes")
                    left.append(one._replace(attempt=one.attempt + 1, not_before=at + after_s))
                case Standing.FAILED | Standing.UNKNOWN:
                    how = "given up" if outcome.standing is Standing.FAILED else "not known whether it was sent"
                    said.append(f"{about}: {how} ({why})")
                    lost = (one.number, one.name, f"{how}: {why}")
                    self.memory.lost = [*self.memory.lost, lost][-_MOST_LOST:]
                case _:
                    left.append(one)
        self.memory.open = left
        return said
