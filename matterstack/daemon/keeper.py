"""The keeper of a workspace: it looks at its runs, and has workers step those that are due.

A process each, so that a disk that hangs holds up nobody else's runs: even to start a process closes, in the new one,
whatever the old one had open, and that may hang.
"""

from __future__ import annotations

import logging
import os
import select
import time
from pathlib import Path

from matterstack.core.text import in_one_line, neutral
from matterstack.daemon.slots import Share
from matterstack.daemon.turns import Turns
from matterstack.daemon.watched_run import WatchedRun
from matterstack.daemon.workers import Worker
from matterstack.errors import MatterstackError, RunNotFoundError
from matterstack.orchestration.capture import capture, describe
from matterstack.storage.run_directory import list_runs

log = logging.getLogger("matterstack.daemon")

#: Where others wait, a worker is told to stop after so long.
_SLICE_S = 3.0
#: Who has not stopped so long after that holds no slot any more; nor is it waited for at the end of the daemon.
STUCK_S = 60.0
_LIST_S = 2.0
#: Between two rounds over all runs, where no worker ends.
_ROUND_S = 0.25


class Keeper:
    """Keep the runs of a workspace going.

    Parameters
    ----------
    base_path : pathlib.Path
    workspace : str
    slots : Share
    told : int
        A descriptor whose end, that of a pipe, tells it to stop.
    once : bool
        End when nothing is due any more.
    """

    def __init__(self, base_path: Path, workspace: str, slots: Share, told: int, *, once: bool) -> None:
        self._place = base_path / "workspaces" / workspace
        self._base_path, self._workspace, self._slots, self._once = base_path, workspace, slots, once
        self._runs: dict[Path, WatchedRun] = {}
        self._turns = Turns(self._place)
        self._queue: dict[Path, WatchedRun] = {}  # those that are due, in their order
        self._workers: dict[int, Worker] = {}  # by pidfd
        self._poll = select.poll()
        self._listed: tuple[int, float] | None = None
        self._there = True
        self._stops_at: float | None = None
        self._told = told
        self._poll.register(told, select.POLLIN)

    def run(self) -> None:
        """Go round until told to stop; then wait for the workers."""
        while self._stops_at is None or self._workers:
            self._make_round()
            if self._once and not self._queue and not self._workers and self._listed is not None:
                return

    def _make_round(self) -> None:
        if self._stops_at is not None:
            self._stop(time.monotonic() - self._stops_at)
        else:
            self._list()
            self._look()
            self._start()
        self._slots.set_hungry(bool(self._queue))
        self._share()
        self._hear()

    def _stop(self, since_s: float) -> None:
        """Tell the workers to stop after their tick; a tick that is killed doubles and loses nothing."""
        for worker in self._workers.values():
            worker.stop()
            if since_s > STUCK_S and worker.kill():
                self._tell(worker.run, f"has been in one tick for {STUCK_S:g} s, and was killed (pid {worker.pid})")

    # -- looking --------------------------------------------------------------------------

    def _list(self) -> None:
        """Notice runs that came or went: the folder of runs tells by its own stamp."""
        now = time.monotonic()
        if self._listed is not None and now < self._listed[1]:
            return
        try:
            stamp = os.stat(self._place / "runs").st_mtime_ns
            if self._listed is None or stamp != self._listed[0]:
                paths = {directory.path for directory in list_runs(self._base_path, self._workspace)}
                busy = {worker.run.path for worker in self._workers.values()}
                for path in self._runs.keys() - paths - busy:
                    del self._runs[path]
                    self._queue.pop(path, None)
                for path in sorted(paths - self._runs.keys()):
                    self._runs[path] = WatchedRun(path)
            self._listed = (stamp, now + _LIST_S)
            if not self._there:
                log.info("workspace %s: it is there again", self._place)
            self._there = True
        except (OSError, RunNotFoundError) as error:
            if self._there:
                log.warning("workspace %s: it cannot be looked at: %s", self._place, error)
            self._there = False
            self._listed = (0, now + _LIST_S)

    def _look(self) -> None:
        if not self._there:
            return
        now = time.monotonic()
        busy = {worker.run.path for worker in self._workers.values()}
        turns = self._turns.come()
        for path, run in self._runs.items():
            if path in busy or path in self._queue:
                continue
            if path.name in turns:
                run.note_turn()
            if run.look_at <= now:
                with capture() as caught:
                    self._tell(run, run.look())
                if caught.error is not None:
                    run.look_at = now + STUCK_S
                    self._tell(run, f"cannot be looked at: {describe(caught.error)}")
            if run.is_due and not (self._once and run.is_done_once):
                self._queue[path] = run

    def _tell(self, run: WatchedRun, said: str | None) -> None:
        if said:
            log.info("%s: %s", in_one_line(str(run.path)), neutral(" ".join(said.split())))

    # -- workers --------------------------------------------------------------------------

    def _start(self) -> None:
        while self._queue and self._slots.take():
            path = next(iter(self._queue))
            run = self._queue.pop(path)
            run.begun()
            try:
                worker = Worker(run)
            except (MatterstackError, OSError) as error:
                self._slots.give()
                self._tell(run, run.ended({"refused": str(error)}, ""))
                continue
            self._workers[worker.pidfd] = worker
            self._poll.register(worker.pidfd, select.POLLIN)
            self._poll.register(worker.words, select.POLLIN)

    def _share(self) -> None:
        """Tell workers to stop whose time is over, where others wait; go on without those that do not."""
        now = time.monotonic()
        wanted = self._slots.is_wanted()
        for worker in self._workers.values():
            if wanted and now - worker.since > _SLICE_S:
                worker.stop()
            if worker.counts and worker.told_at is not None and now - worker.told_at > STUCK_S:
                worker.counts = False
                self._slots.give()
                self._tell(worker.run, f"has been in one tick for {STUCK_S:g} s (pid {worker.pid}); others go on")

    def _hear(self) -> None:
        ready = dict(self._poll.poll(_ROUND_S * 1000))
        if self._told in ready:
            self._poll.unregister(self._told)
            self._stops_at = time.monotonic()
        for pidfd, worker in list(self._workers.items()):
            worker.hear()
            if ready.get(worker.words, 0) & select.POLLHUP:
                self._poll.unregister(worker.words)
                worker.is_silent = True
            if pidfd in ready:
                self._end(worker)

    def _end(self, worker: Worker) -> None:
        del self._workers[worker.pidfd]
        self._poll.unregister(worker.pidfd)
        if not worker.is_silent:
            self._poll.unregister(worker.words)
        if worker.counts:
            self._slots.give()
        self._tell(worker.run, worker.run.ended(*worker.end()))
