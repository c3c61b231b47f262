"""One tick of a run: poll, plan, execute, analyze, under the run's lock.

Every tick goes the same way: a snapshot of the store, observations from the operators,
changes decided by pure functions, one transaction that writes them together with the
intents to submit, the submissions, and one transaction with what became of those.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matterstack.core import scheduling
from matterstack.core.operator import Operator
from matterstack.core.records import (
    Absent,
    Attempt,
    AttemptChange,
    Change,
    IterationCounts,
    LiveAttempt,
    NewAttempt,
    Observation,
    OperatorTrouble,
    ReadyTask,
    Refused,
    RunChange,
    RunRecord,
    Seen,
    Submitted,
    TaskChange,
    TaskResult,
    TickReport,
)
from matterstack.core.scheduling import Conclusion
from matterstack.core.states import (
    TERMINAL_TASK,
    AttemptEvent,
    AttemptStatus,
    RunEvent,
    RunStatus,
    TaskEvent,
    TaskStatus,
)
from matterstack.core.strict_json import dump_json, to_text
from matterstack.core.workflow import FromTask, StoredFile
from matterstack.errors import AttemptFailedError, AttemptRejectedError, OperatorUnreachableError, UnsafeFileError
from matterstack.files import copy_inside, write_new
from matterstack.orchestration import planning
from matterstack.orchestration.border import Border, describe
from matterstack.orchestration.changes import apply_with_skips
from matterstack.orchestration.session import Session
from matterstack.storage.run_lock import RunLock
from matterstack.testing import reach

log = logging.getLogger("matterstack.tick")

_MOST_PER_TICK = 1000
_NOTHING_NEW = Submitted()

#: Of a task that another one waits for: id, status, attempts, data as JSON text, operator.
Input = tuple[str, str, int, str | None, str]


def step(session: Session, *, soon: bool = False) -> TickReport:
    """Make one tick.

    Parameters
    ----------
    session : Session
        The run.
    soon : bool
        Whether this process makes another tick within a moment. It then writes that
        submissions succeeded together with what it sees by then, in one commit.

    Raises
    ------
    RunLockedError
        Somebody else is stepping the run.
    StoreError
        The database cannot be used; nothing was changed.
    """
    with session.locked() as lock:
        reach("tick.locked")
        tick = Tick(session, lock, soon)
        report = tick.make()
        reach("tick.made")
    log.info(
        "%s",
        report,
        extra={
            "run_id": tick.run.run_id,
            "iteration": report.iteration,
            "ready": report.ready,
            "submitted": report.submitted,
            "completed": report.completed,
            "failed": report.failed,
            "skipped": report.skipped,
            "live": report.live,
            "run_status": str(report.status),
        },
    )
    return report


class Tick:
    """The work of one tick; made anew each time.

    Parameters
    ----------
    session : Session
        The run.
    lock : RunLock
        Held.
    soon : bool
        Whether another tick follows within a moment.
    """

    def __init__(self, session: Session, lock: RunLock, soon: bool = False) -> None:
        self.session = session
        self.soon = soon
        self.store = session.store
        self.lock = lock
        self.at = time.time()
        self.root = str(session.directory.path)
        with self.store.reading():
            self.run: RunRecord = self.store.run()
            self.counts: IterationCounts = self.store.counts(self.run.iteration)
            self.live: list[LiveAttempt] = self.store.live_attempts()
            self.troubles: dict[str, OperatorTrouble] = self.store.troubles()
        self.status = self.run.status
        self.reason = self.run.reason
        self.asked: set[str] = set()
        self.failing: dict[str, str] = {}
        self.interrupted: set[int] = set()
        self.reasons: list[tuple[str, int]] = []
        self.settling = self.replanning = False
        self.ready = self.submitted = self.completed = self.failed = self.skipped = 0

    def make(self) -> TickReport:
        """Poll, plan, execute, analyze."""
        changes, again = self.poll()
        reach("tick.polled")
        chosen = self.settle_and_choose(changes)
        self.interrupted = {live.id for live in again}
        self.execute([*again, *chosen])
        self.note_troubles()
        planned = self.conclude()
        if self.session.missing and self.reason is None and self.status is RunStatus.RUNNING:
            wanted = {live.operator for live in self.live} | set(self.store.ready_operators())
            for name in sorted(wanted.intersection(self.session.missing)):
                self.reason = f"the operator {name!r} was not given to this process, so nobody asks about its attempts"
        counts = self.store.counts(self.run.iteration)
        return TickReport(
            self.ready,
            self.submitted,
            self.completed,
            self.failed,
            self.skipped,
            len(self.live),
            self.run.iteration,
            self.status,
            self.reason,
            again=planned or (self.status is RunStatus.RUNNING and counts.ready > 0 and self.could_submit()),
            settling=self.settling,
        )

    # -- the border to the operators ------------------------------------------------------

    def heed(self, name: str, border: Border) -> None:
        """Note whether the operator could be asked; whatever it raised means "cannot tell"."""
        self.asked.add(name)
        if border.error is not None:
            self.failing[name] = describe(border.error)

    def operator(self, name: str) -> Operator | None:
        """Return an operator that may be asked now."""
        operator = self.session.operators.get(name)
        if operator is None or name in self.failing or not scheduling.is_due(self.troubles.get(name), self.at):
            return None
        return operator

    def attempt(self, live: LiveAttempt, name: str | None = None) -> Attempt:
        """Return an attempt as operators see it."""
        return Attempt(live, f"{self.root}/operators/{live.operator}", name)

    # -- poll -----------------------------------------------------------------------------

    def poll(self) -> tuple[list[Change], list[LiveAttempt]]:
        """Ask every operator about its live attempts.

        Returns
        -------
        changes : list
            What the answers mean.
        again : list of LiveAttempt
            Interrupted submissions that surely did not reach the outside.
        """
        changes: list[Change] = []
        again: list[LiveAttempt] = []
        groups: dict[str, list[LiveAttempt]] = {}
        # Used once: whatever becomes of this tick, the next one can ask the operator.
        told, self.session.replies = self.session.replies, {}
        for live in self.live:
            groups.setdefault(live.operator, []).append(live)
        for name, group in groups.items():
            operator = self.operator(name)
            if operator is None:
                continue
            unwanted, interrupted, watched, collecting = [], [], [], []
            for live in group:
                if live.status is AttemptStatus.COLLECTING:
                    collecting.append(live)
                elif live.task_status in TERMINAL_TASK:
                    unwanted.append(live)
                elif live.status is AttemptStatus.SUBMITTING and live.token in told:
                    changes += self._submitted(live, told[live.token])
                    watched.append(live._replace(status=AttemptStatus.SUBMITTED))
                elif live.status is AttemptStatus.SUBMITTING:
                    interrupted.append(live)
                else:
                    watched.append(live)
            if interrupted:
                with Border() as border:
                    again += self._find(operator, interrupted, changes)
                self.heed(name, border)
            if unwanted:
                reach("cancel.begin")
                with Border() as border:
                    gone = set(operator.cancel([self.attempt(live) for live in unwanted]))
                    changes += [self._cancelled(live) for live in unwanted if live.token in gone]
                self.heed(name, border)
                reach("cancel.asked")
            if watched:
                # Between two questions of a loop; that something is seen then does not mean that the operator answers.
                glance = self.soon and time.monotonic() < self.session.look_again.get(name, 0.0)
                with Border() as border:
                    self._look(operator.glance if glance else operator.check_status, watched, changes, collecting)
                if border.error is not None or not glance:
                    self.heed(name, border)
                if border.error is None and not glance:
                    self.session.look_again[name] = time.monotonic() + operator.poll_s
            for live in collecting:
                self._collect(name, operator, live, changes)
        return changes, again

    def _find(self, operator: Operator, interrupted: Sequence[LiveAttempt], changes: list[Change]) -> list[LiveAttempt]:
        found = operator.find([self.attempt(live) for live in interrupted])
        again = []
        for live in interrupted:
            match found.get(live.token):
                case Submitted() as reply:
                    changes += self._submitted(live, reply)
                case Absent():
                    again.append(live)
        return again

    def _look(
        self,
        look: Callable[[Sequence[Attempt]], Mapping[str, Observation]],
        watched: Sequence[LiveAttempt],
        changes: list[Change],
        collecting: list[LiveAttempt],
    ) -> None:
        seen = look([self.attempt(live) for live in watched])
        for live in watched:
            observation = seen.get(live.token)
            if observation is None:
                continue
            self.settling |= observation.settling
            implied = scheduling.judge(live, observation, self.at)
            changes += implied
            if not implied and observation.reason and observation.reason != live.reason:
                self.reasons.append((observation.reason, live.id))
            if implied and observation.seen is Seen.ENDED and observation.ok:
                collecting.append(live)

    def _collect(self, name: str, operator: Operator, live: LiveAttempt, changes: list[Change]) -> None:
        reach("collect.begin")
        with Border() as border:
            data = operator.collect_results(self.attempt(live))
            text = "{}" if data is None or data == {} else dump_json(data, f"the results of {live.task_id}")
        match border.error:
            case None:
                changes += scheduling.collected(live, self.at, text)
            case OperatorUnreachableError():
                self.heed(name, border)
            case AttemptRejectedError(then=then, data=answer) as error:
                changes += scheduling.rejected(live, self.at, str(error), to_text(answer), then)
                self.replanning |= then == "replan"
            case error:
                changes += scheduling.failed(live, self.at, f"its results cannot be collected: {describe(error)}")

    def _cancelled(self, live: LiveAttempt) -> AttemptChange:
        return AttemptChange(
            live.id, live.task, live.status, AttemptEvent.CANCEL, self.at, "cancelled", ended_at=self.at
        )

    # -- plan and execute -----------------------------------------------------------------

    def rooms(self) -> dict[str, int]:
        """Return how many more attempts each operator takes, where it takes any."""
        live: dict[str, int] = {}
        for attempt in self.live:
            live[attempt.operator] = live.get(attempt.operator, 0) + 1
        rooms = {}
        for name in self.session.operators:
            trouble = self.troubles.get(name)
            operator = self.operator(name)
            if operator is None or (trouble is not None and trouble.suspended):
                continue
            with Border() as border:
                most = operator.max_live(self.session.directory.operator(name))
            if border.error is not None:
                self.heed(name, border)
                continue
            room = operator.most_at_once if self.soon and operator.most_at_once else _MOST_PER_TICK
            if most is not None:
                room = min(room, most - live.get(name, 0))
            if room > 0:
                rooms[name] = room
        return rooms

    def could_submit(self) -> bool:
        """Return whether an operator with room has a task that may start: room elsewhere is of no use to it."""
        return not self.rooms().keys().isdisjoint(self.store.ready_operators())

    def settle_and_choose(self, changes: list[Change]) -> list[LiveAttempt]:
        """Write what was seen, together with the intents to submit; return those to submit."""
        over = {c.attempt for c in changes if isinstance(c, AttemptChange) and _ends(c)}
        self.live = [live for live in self.live if live.id not in over]
        starting = self.status is RunStatus.PENDING
        if starting:
            changes.insert(0, RunChange(RunStatus.PENDING, RunEvent.START, self.at))
            self.status = RunStatus.RUNNING
        rooms = self.rooms() if self.status is RunStatus.RUNNING else {}
        self.ready = self.counts.ready
        if not changes and not self.reasons and not (rooms and self.counts.ready):
            return []
        with self.store.transaction(self.lock.check):
            self.write(changes)
            if self.replanning:
                why = "the campaign plans again"
                pending = self.store.pending_tasks(self.run.iteration)
                self.write([TaskChange(row, TaskStatus.PENDING, TaskEvent.SKIP, self.at, why) for row in pending])
            self.store.note_reasons(self.reasons)
            self.counts = self.store.counts(self.run.iteration)
            self.ready = self.counts.ready
            ready: Mapping[str, Sequence[ReadyTask]] = {
                name: self.store.ready_tasks(name, room) for name, room in rooms.items() if self.ready
            }
            tasks = scheduling.choose(self.status, ready, rooms)
            new = [NewAttempt(task.id, task.attempts + 1, _token(self.at), self.at) for task in tasks]
            rows = self.store.submit(new, self.run.iteration) if new else []
        return [
            LiveAttempt(
                row,
                task.id,
                self.run.iteration,
                task.task_id,
                attempt.attempt,
                AttemptStatus.SUBMITTING,
                attempt.token,
                task.operator,
                None,
                None,
                self.at,
                None,
                TaskStatus.SUBMITTED,
                task.failures,
                task.retries,
                task.spec,
            )
            for row, task, attempt in zip(rows, tasks, new, strict=True)
        ]

    def write(self, changes: Sequence[Change]) -> None:
        """Apply changes with their cascade, and count what became of tasks."""
        moves = apply_with_skips(self.store, changes, self.run.iteration)
        self.completed += moves[TaskEvent.COMPLETE]
        self.failed += moves[TaskEvent.FAIL]
        self.skipped += moves[TaskEvent.SKIP]

    def _submitted(self, live: LiveAttempt, reply: Submitted) -> list[AttemptChange]:
        taken = AttemptChange(
            live.id, live.task, live.status, AttemptEvent.SUBMITTED, self.at, external_id=reply.external_id
        )
        if reply.waits_for is None:
            return [taken]
        leaves = AttemptStatus.SUBMITTED
        waits = AttemptChange(live.id, live.task, leaves, AttemptEvent.WAITING, self.at, reason=reply.waits_for)
        return [taken, waits]

    def execute(self, submissions: Sequence[LiveAttempt]) -> None:
        """Make the directories, submit, and write what became of it."""
        known = {live.id for live in self.live}
        self.live += [live for live in submissions if live.id not in known]
        groups: dict[str, list[LiveAttempt]] = {}
        for live in submissions:
            groups.setdefault(live.operator, []).append(live)
        changes: list[Change] = []
        for name, group in groups.items():
            operator = self.operator(name)
            if operator is None:
                continue
            inputs = self.store.dependencies([live.task for live in group])
            prepared = [live for live in group if self._build(name, operator, live, inputs, changes)]
            if not prepared:
                continue
            reach("submit.prepared")
            with Border() as border:
                replies = operator.submit([self.attempt(live) for live in prepared])
                for live in prepared:
                    match replies.get(live.token):
                        case Submitted() as reply:
                            self.submitted += 1
                            if self.soon and reply == _NOTHING_NEW and not _releases(operator):
                                self.session.replies[live.token] = reply
                            else:
                                changes += self._submitted(live, reply)
                        case Refused(reason):
                            changes += scheduling.refused(live, self.at, reason)
            self.heed(name, border)
            reach("submit.submitted")
        if changes:
            with self.store.transaction(self.lock.check):
                self.write(changes)
            self._release(submissions, changes)
            over = {c.attempt for c in changes if isinstance(c, AttemptChange) and _ends(c)}
            self.live = [live for live in self.live if live.id not in over]

    def _release(self, submissions: Sequence[LiveAttempt], changes: Sequence[Change]) -> None:
        """Let start what was taken, now that its external id is stored."""
        ids = {
            change.attempt: change.external_id
            for change in changes
            if isinstance(change, AttemptChange) and change.event is AttemptEvent.SUBMITTED
        }
        groups: dict[str, list[Attempt]] = {}
        for live in submissions:
            operator = self.session.operators.get(live.operator)
            if live.id in ids and operator is not None and _releases(operator):
                groups.setdefault(live.operator, []).append(self.attempt(live._replace(external_id=ids[live.id])))
        for name, attempts in groups.items():
            reach("submit.stored")
            with Border() as border:
                self.session.operators[name].release(attempts)
            self.heed(name, border)

    def _build(
        self,
        name: str,
        operator: Operator,
        live: LiveAttempt,
        inputs: Mapping[int, Sequence[Input]],
        changes: list[Change],
    ) -> bool:
        """Make the attempt's directory; return whether it can be submitted."""

        def populate(directory: str) -> None:
            attempt = self.attempt(live, directory.rpartition("/")[2])
            self._place_inputs(attempt, live, inputs.get(live.task, ()))
            with Border() as preparing:
                operator.prepare(attempt)
            if isinstance(preparing.error, OperatorUnreachableError):
                raise preparing.error
            if preparing.error is not None:
                raise AttemptFailedError(f"it cannot be prepared: {describe(preparing.error)}")

        with Border() as border:
            again = live.id in self.interrupted
            self.session.directory.build_attempt(live.operator, live.name, live.token, populate, again=again)
        match border.error:
            case None:
                return True
            case AttemptFailedError() | UnsafeFileError() as error:
                changes += scheduling.refused(live, self.at, str(error))
            case _:  # the operator is out of reach, or our own files cannot be written: not the attempt's fault
                self.heed(name, border)
        return False

    def _place_inputs(self, attempt: Attempt, live: LiveAttempt, inputs: Sequence[Input]) -> None:
        """Write inputs.json and the task's files."""
        entries = []
        for task_id, status, attempts, data, operator in inputs:
            name = f"{live.iteration}.{task_id}.{attempts}"
            way = f"../{name}" if operator == live.operator else f"../../{operator}/{name}"
            if folder := self.results_folder(operator):
                way += f"/{folder}"
            where = f'"{way}"' if attempts else "null"
            # The data is JSON text already, and ids need no escaping.
            entries.append(f'"{task_id}":{{"status":"{status}","directory":{where},"data":{data or "{}"}}}')
        if entries:
            text = "{" + ",\n".join(entries) + "}\n"
            write_new(f"{attempt.parent}/{attempt.name}/inputs.json", text.encode())
        if '"files"' not in live.spec:
            return
        places = {
            task_id: self.session.directory.attempt(operator, live.iteration, task_id, attempts)
            / self.results_folder(operator)
            for task_id, _, attempts, _, operator in inputs
        }
        for relative, content in attempt.task.files.items():
            target = attempt.directory / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            match content:
                case str():
                    target.write_text(content, encoding="utf-8")
                case bytes():
                    target.write_bytes(content)
                case FromTask(task_id, path):
                    try:
                        copy_inside(places[task_id], path, target)
                    except FileNotFoundError:
                        raise AttemptFailedError(f"{task_id} did not leave the file {path}") from None
                case StoredFile(sha256):
                    self.session.directory.place_stored(sha256, target)

    def results_folder(self, operator: str) -> str:
        """Return where in its attempts' directories an operator leaves results."""
        known = self.session.operators.get(operator)
        return known.results_folder if known is not None else ""

    # -- troubles -------------------------------------------------------------------------

    def note_troubles(self) -> None:
        """Count who could not be asked; forget who answered; pause when nothing else can move."""
        failing = [
            scheduling.next_trouble(self.troubles.get(name), name, reason, self.at, self.session.settings.suspend_after)
            for name, reason in self.failing.items()
        ]
        healthy = [name for name in self.asked - self.failing.keys() if name in self.troubles]
        if not failing and not healthy:
            return
        troubles = {name: t for name, t in self.troubles.items() if name not in healthy}
        troubles |= {trouble.operator: trouble for trouble in failing}
        for trouble in failing:
            log.warning(
                "operator %s cannot be asked (%d in a row): %s",
                trouble.operator,
                trouble.failures,
                trouble.reason.strip().splitlines()[-1],
                extra={"run_id": self.run.run_id, "operator": trouble.operator, "failures": trouble.failures},
            )
        with self.store.transaction(self.lock.check):
            self.store.set_troubles(failing, healthy)
            suspended = [name for name, trouble in troubles.items() if trouble.suspended]
            if self.status is RunStatus.RUNNING and suspended and self._stuck(suspended):
                reason = (
                    f"the operator {suspended[0]} has not answered {troubles[suspended[0]].failures} times and nothing "
                    f"else can move; resume() when it can be reached. Last: "
                    f"{troubles[suspended[0]].reason.strip().splitlines()[-1]}"
                )
                self.change_run(RunEvent.PAUSE, reason)
        self.troubles = troubles

    def _stuck(self, suspended: Sequence[str]) -> bool:
        if any(live.operator not in suspended for live in self.live):
            return False
        ready = self.store.ready_operators()
        counts = self.store.counts(self.run.iteration)
        return all(name in suspended for name in ready) and counts.unfinished > 0

    def change_run(self, event: RunEvent, reason: str | None) -> None:
        """Move the run, inside a transaction."""
        self.store.apply([RunChange(self.status, event, self.at, reason)], self.run.iteration)
        self.run = self.store.run()
        self.status, self.reason = self.run.status, self.run.reason

    # -- analyze --------------------------------------------------------------------------

    def conclude(self) -> bool:
        """End the run or plan its next iteration, where all tasks are over; return whether it was planned."""
        if self.status is not RunStatus.RUNNING:
            return False
        counts = self.store.counts(self.run.iteration)
        lost = self.store.failed_for_good(self.run.iteration) if counts.failed and not counts.unfinished else []
        match scheduling.conclude(self.status, counts, failed_for_good=len(lost)):
            case Conclusion.FAIL:
                names = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
                with self.store.transaction(self.lock.check):
                    self.change_run(
                        RunEvent.FAIL,
                        f"failed tasks: {names}; see run.explain(), then run.retry(...) them or start another run",
                    )
            case Conclusion.ANALYZE:
                return self._analyze()
        return False

    def _analyze(self) -> bool:
        iteration = self.run.iteration
        with Border() as border:
            campaign = self.session.load_campaign()
            if campaign is not None:
                state = planning.analyze(campaign, self.run.campaign_state, self._results(iteration))
                planned = planning.plan(campaign, state, self.session.operators, self.session.directory)
        reach("analyze.planned")
        if border.error is not None:
            with self.store.transaction(self.lock.check):
                self.change_run(
                    RunEvent.PAUSE,
                    "the campaign could not go on; mend it, open the run with it, and resume(): "
                    + describe(border.error),
                )
            return False
        if campaign is None:
            self.reason = (
                "every task of the iteration is over, and the campaign that analyzes it was not given: "
                "open_run(path, campaign=...)"
            )
            return False
        with self.store.transaction(self.lock.check):
            self.store.end_iteration(iteration, self.at, state)
            if planned is None:
                self.change_run(RunEvent.COMPLETE, None)
            else:
                self.store.add_iteration(iteration + 1, self.at, planned)
                self.store.set_iteration(iteration + 1)
                self.run = self.store.run()
        return planned is not None

    def _results(self, iteration: int) -> dict[str, TaskResult]:
        rows = self.store.results(iteration)
        folders = {row[2]: self.results_folder(row[2]) for row in rows}

        def directory(operator: str, name: str) -> Path:
            # One text, since there is one for each task.
            return Path(f"{self.root}/operators/{operator}/{name}/{folders[operator]}")

        return {
            task_id: TaskResult(
                task_id,
                TaskStatus(status),
                json.loads(data) if data and data != "{}" else {},
                directory(operator, f"{iteration}.{task_id}.{attempts}") if attempts else None,
                reason,
            )
            for task_id, status, operator, attempts, reason, data in rows
        }


def _token(at: float) -> str:
    """Return a name that no other attempt has: 64 random bits make it so.

    The time before them makes tokens of one tick neighbours in the store's index, so that a tick writes one page of it
    and not one for each.
    """
    return f"ms-{int(at * 1000) & 0xFFFF_FFFF_FFFF:012x}{os.urandom(8).hex()}"


def _releases(operator: Operator) -> bool:
    return type(operator).release is not Operator.release


def _ends(change: AttemptChange) -> bool:
    return change.event in _ENDING


_ENDING = frozenset(
    {
        AttemptEvent.REFUSED,
        AttemptEvent.COLLECTED,
        AttemptEvent.FAILED,
        AttemptEvent.EXPIRED,
        AttemptEvent.VANISHED,
        AttemptEvent.CANCEL,
    }
)
