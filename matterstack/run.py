"""The object a user holds: one run, to step, look at and act on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from matterstack.core.keywords import suggesting
from matterstack.core.resources import Resources
from matterstack.core.results import TickReport
from matterstack.core.snapshot import IterationCounts
from matterstack.core.states import RunStatus
from matterstack.core.task import FileSource
from matterstack.core.text import did_you_mean
from matterstack.errors import InvalidConfigError
from matterstack.functions.campaign import Campaign
from matterstack.operators.base import Operator
from matterstack.orchestration import (
    actions as controls,
)
from matterstack.orchestration import (
    cleaning,
    disk,
    kits,
    late_results,
    loop,
    made_from,
    outcomes,
    tagging,
    tick,
)
from matterstack.orchestration import (
    tables as frames,
)
from matterstack.orchestration.cleaning import Cleaning
from matterstack.orchestration.configure import configure, configure_budget, configure_notify, take_environment
from matterstack.orchestration.limits_explained import why_waiting
from matterstack.orchestration.made_from import MadeFrom, UsedBy
from matterstack.orchestration.mending import Mend
from matterstack.orchestration.overview import Overview, look
from matterstack.orchestration.session import Session
from matterstack.storage.reader import StoreReader

if TYPE_CHECKING:
    import networkx
    import pandas as pd

    from matterstack.evidence.verification import Verification
    from matterstack.notebook.browse_view import BrowseView
    from matterstack.notebook.cockpit import Cockpit
    from matterstack.notebook.inbox import Inbox
    from matterstack.notebook.scatter import ScatterView
    from matterstack.notebook.table_view import TableView
    from matterstack.notebook.timeline_view import TimelineView
    from matterstack.notebook.views import DagView
    from matterstack.operators.requests.kit_archives import Imported
    from matterstack.orchestration.budget import Spent
    from matterstack.orchestration.cache_explained import CacheExplanation
    from matterstack.orchestration.explain import Explanation
    from matterstack.orchestration.packing import Packing


class Run:
    """One execution of a campaign: a directory that any kernel can open.

    Made by `initialize_run` and `open_run`.

    Examples
    --------
    >>> import tempfile
    >>> import matterstack as ms
    >>> flow = ms.Workflow([ms.Task("hello", "echo hello")])
    >>> run = ms.initialize_run("demo", flow, base_path=tempfile.mkdtemp())
    >>> print(run.step())
    Tick: 1 tasks ready, 1 submitted, 0 completed
    >>> run.wait()
    <RunStatus.COMPLETED: 'COMPLETED'>
    >>> run.tasks.loc["0.hello", "status"]
    'COMPLETED'
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        public = [known for known in dir(type(self)) if not known.startswith("_")]
        raise AttributeError(f"a Run has no {name!r}{did_you_mean(name, public)}", name=name, obj=self)

    # -- what it is -----------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The run's directory."""
        return self._session.directory.path

    @property
    def store(self) -> StoreReader:
        """What there is to ask the run's database; `docs/store.md` shows some questions."""
        return self._session.reader

    @property
    def operators(self) -> Mapping[str, Operator]:
        """The operators that this process was given or could rebuild, by name."""
        return MappingProxyType(dict(self._session.operators))

    def task_directory(self, task_id: str, *, iteration: int | None = None, attempt: int | None = None) -> Path:
        """Return the directory of an attempt of a task.

        Parameters
        ----------
        task_id : str
            As the plan names it, or ``<iteration>.<task_id>`` as the index of `tasks` does.
        iteration : int, optional
            By default the latest one that has the task.
        attempt : int, optional
            By default the last one that is completed; where none is, the last one.

        Raises
        ------
        UnknownTaskError
            There is no such task, or it has no such attempt.
        """
        return outcomes.find(self._session, task_id, iteration, attempt, completed=False).directory

    def value(
        self, task_id: str, *, iteration: int | None = None, attempt: int | None = None, raw: bool = False
    ) -> Any:
        """Return what a task gave: of the call of a function what that returned, of any other task its data.

        Parameters
        ----------
        task_id : str
            As the plan names it, or ``<iteration>.<task_id>`` as the index of `tasks` does.
        iteration : int, optional
            By default the latest one that has the task.
        attempt : int, optional
            By default the last one that is completed.
        raw : bool
            Return the plain JSON of the value, in which objects are described and not made.

        Raises
        ------
        UnknownTaskError
            There is no such task, or no such attempt of it is completed.
        ValueNotReadableError
            It holds something that cannot be read here.
        """
        found = outcomes.find(self._session, task_id, iteration, attempt, completed=True)
        return outcomes.value_of(self._session, found, raw=raw)

    def file(self, task_id: str, path: str, *, iteration: int | None = None, attempt: int | None = None) -> Path:
        """Return where a file is that a task left.

        Parameters
        ----------
        task_id : str
            As the plan names it, or ``<iteration>.<task_id>`` as the index of `tasks` does.
        path : str
            Relative to where its results are.
        iteration, attempt : int, optional
            As in `task_directory`.

        Raises
        ------
        UnknownTaskError
            There is no such task, or it has no such attempt.
        MissingFileError
            It has not left such a file; the message lists those that it left.
        """
        found = outcomes.find(self._session, task_id, iteration, attempt, completed=False)
        return outcomes.file_of(self._session, found, path)

    def made_from(self, task_id: str, *, iteration: int | None = None, attempt: int | None = None) -> MadeFrom:
        """Return what a result was made from: what its attempt took, of which attempts; what it ran in; hashes.

        Parameters
        ----------
        task_id : str
            As the plan names it, or ``<iteration>.<task_id>`` as the index of `tasks` does.
        iteration, attempt : int, optional
            As in `task_directory`.

        Returns
        -------
        MadeFrom
            Its ``table`` has all that led to it, across iterations and runs of the workspace.

        Raises
        ------
        UnknownTaskError
            There is no such task, or it has no such attempt.
        """
        return made_from.made_from(self._session, task_id, iteration, attempt)

    def used_by(self, task_id: str, *, iteration: int | None = None, attempt: int | None = None) -> UsedBy:
        """Return what took something of a result; otherwise as `made_from`.

        Parameters
        ----------
        task_id : str
            The task whose result it is.
        iteration, attempt : int, optional
            As in `task_directory`.

        Raises
        ------
        UnknownTaskError
            There is no such task, or it has no such attempt.
        """
        return made_from.used_by(self._session, task_id, iteration, attempt)

    def explain_cache(self, task_id: str, *, iteration: int | None = None) -> CacheExplanation:
        """Return whether the result of a task was known from before, or is; and in what it differs from the nearest.

        Parameters
        ----------
        task_id : str
            As the plan names it, or ``<iteration>.<task_id>`` as the index of `tasks` does.
        iteration : int, optional
            By default the latest one that has the task.

        Raises
        ------
        UnknownTaskError
            There is no such task.
        """
        from matterstack.orchestration.cache_explained import explain_cache

        return explain_cache(self._session, task_id, iteration)

    @property
    def spent(self) -> Spent:
        """What the run has spent: tasks that were begun, core hours, and hours in which it was RUNNING."""
        from matterstack.orchestration.budget import Ledger

        with self.store.reading():
            return Ledger().spent(self.store, self.store.live_attempts())

    @property
    def run_id(self) -> str:
        """The run's name in its workspace."""
        return self.store.run().run_id

    @property
    def workspace(self) -> str:
        """The workspace the run belongs to."""
        return self.store.run().workspace

    @property
    def status(self) -> RunStatus:
        """Where the run stands."""
        return self.store.run().status

    @property
    def reason(self) -> str | None:
        """Why it stands there: of a run that was paused, failed or cancelled."""
        return self.store.run().reason

    @property
    def iteration(self) -> int:
        """Number of the current iteration."""
        return self.store.run().iteration

    @property
    def overview(self) -> Overview:
        """Where the run stands, all of one moment."""
        return look(self.store, self.path)

    @property
    def counts(self) -> IterationCounts:
        """How many tasks of the current iteration stand where."""
        return self.store.counts(self.iteration)

    @property
    def tags(self) -> tuple[str, ...]:
        """The words that the run is found by; those of its tasks are a column of `tasks`."""
        return self.store.run().tags

    @property
    def target(self) -> Mapping[str, str]:
        """Which columns of `results` shall be large or small, as its campaign said when the run was made."""
        return MappingProxyType(dict(self._session.settings.target))

    @property
    def campaign_state(self) -> Any:
        """The campaign's own data, after the last ``analyze``."""
        import json

        return json.loads(self.store.run().campaign_state)

    def __repr__(self) -> str:
        from matterstack.notebook.summary import summary_text

        return summary_text(self.overview)

    def _repr_html_(self) -> str:
        from matterstack.notebook.summary import summary_html

        return summary_html(self.overview)

    # -- tables ---------------------------------------------------------------------------

    @property
    def tasks(self) -> pd.DataFrame:
        """A row per task of every iteration, and why it waits; see `matterstack.orchestration.tables.tasks`."""
        return frames.tasks(self.store, why_waiting(self._session))

    @property
    def attempts(self) -> pd.DataFrame:
        """A row per attempt, in the order of submission."""
        return frames.attempts(self.store)

    @property
    def events(self) -> pd.DataFrame:
        """The journal: a row per transition, in its order."""
        return frames.events(self.store)

    @property
    def results(self) -> pd.DataFrame:
        """A row per completed task, with a column for each key of its ``result.json``; of a call, of its value."""
        return frames.results(self.store)

    def results_of(self, function: Callable[..., Any] | str) -> pd.DataFrame:
        """Return the part of `results` that calls of one function gave, without empty columns.

        Parameters
        ----------
        function : callable or str
            The function, or its name.
        """
        name = function if isinstance(function, str) else str(getattr(function, "__name__", function))
        return frames.results(self.store, name)

    def time_spent(self, by: str = "function") -> pd.DataFrame:
        """Return where time went, up to now: a row for each function, operator, iteration or group.

        Parameters
        ----------
        by : {'function', 'operator', 'iteration', 'group'}
            What attempts are counted by. Tasks that call no function are counted under an empty name; a task without a
            group by the stem of its name, as in `dag`.

        Returns
        -------
        pandas.DataFrame
            ``attempts``, and of these ``completed`` and ``failed``; ``waiting_s`` from submission to start and
            ``running_s`` from there to the end, added up; ``core_hours`` as `spent` counts them; ``cpu_s`` of those
            that were measured, and ``cpu_efficiency``, its share of the core seconds of these; ``peak_memory_gib`` of
            the largest. An attempt whose result was cached took no time.

        Raises
        ------
        PlotError
            `by` is none of these.
        """
        from matterstack.orchestration.time_spent import time_spent

        return time_spent(self.store, by)

    # -- going on -------------------------------------------------------------------------

    def step(self) -> TickReport:
        """Make one tick: poll, plan, execute, analyze.

        Returns
        -------
        TickReport
            What the tick found and did.

        Raises
        ------
        RunLockedError
            Another process, thread or cell is stepping the run.
        StoreError
            The database cannot be used; nothing was changed.
        """
        return tick.step(self._session)

    @suggesting
    def wait(self, timeout_s: float | None = None) -> RunStatus:
        """Make ticks until the run ends or needs a person; show progress meanwhile.

        An interrupt stops the waiting, not the run: its tasks go on, and the next
        ``wait`` or ``step`` takes them up.

        Parameters
        ----------
        timeout_s : float, optional
            Give up waiting after so many seconds.

        Returns
        -------
        RunStatus
            Where the run stands.

        Raises
        ------
        RunLockedError
            Another process is stepping the run, and goes on doing so.
        """
        from matterstack.notebook.progress import progress

        with progress(self) as shown:
            for report in self.ticks(shown.look, timeout_s):
                shown.show(report)
        return self.status

    @suggesting
    async def wait_async(self, timeout_s: float | None = None) -> RunStatus:
        """Do what `wait` does and leave the kernel free: ``await run.wait_async()``.

        Other cells that await, views and forms go on meanwhile. A cell that is interrupted stops waiting.

        Parameters
        ----------
        timeout_s : float, optional
            Give up waiting after so many seconds.

        Returns
        -------
        RunStatus
            Where the run stands.

        Raises
        ------
        RunLockedError
            Another process is stepping the run, and goes on doing so.
        """
        import asyncio
        import threading
        from concurrent.futures import ThreadPoolExecutor

        from matterstack.notebook.progress import progress

        stopped = threading.Event()
        reports = self.ticks(stopped.is_set, timeout_s)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "matterstack-wait") as worker, progress(self) as shown:
            try:
                while (report := await loop.run_in_executor(worker, next, reports, None)) is not None:
                    shown.show(report)
            finally:
                stopped.set()
        return self.status

    def ticks(self, stop: Callable[[], bool] = lambda: False, timeout_s: float | None = None) -> Iterator[TickReport]:
        """Make ticks, each as soon as there is something to do, until the run ends or needs a person.

        Parameters
        ----------
        stop : callable
            Asked after each tick, and while nothing happens twice a second: whether to stop.
        timeout_s : float, optional
            Stop after so many seconds.

        Returns
        -------
        iterator of TickReport
            One a tick, which is made when it is asked for.

        Raises
        ------
        RunLockedError
            Another process is stepping the run: at the first tick at once, later after a minute.
        """
        return loop.ticks(self._session, stop, timeout_s)

    @property
    def graph(self) -> networkx.DiGraph[str]:
        """A new networkx graph: a node per task, named as in `tasks`, and edges from dependency to dependant.

        A node has the columns of `tasks` and its ``group`` as attributes.
        """
        return frames.graph(self.store, why_waiting(self._session))

    @suggesting
    def dag(self, graph: networkx.DiGraph[str] | None = None, *, collapse: str = "auto") -> DagView:
        """Show the graph of tasks, live: colours and glyphs say where each stands, a click tells all about it.

        Parameters
        ----------
        graph : networkx.DiGraph, optional
            What to show: `graph`, a subgraph of it, or other edges between its nodes; by default all.
        collapse : {'auto', 'tasks', 'group', 'iteration'}
            What is drawn as one node; ``auto`` draws in groups what the page has no room for: by group, else by the
            stem of the names, else by stage.

        Raises
        ------
        UnknownTaskError
            The graph has a node that is no task of the run.
        PlotError
            ``collapse`` is none of these.
        """
        from matterstack.notebook.views import DagView

        return DagView(self, graph, collapse)

    def table(self) -> TableView:
        """Show the table of tasks, live, to filter and sort; `tasks` is the plain DataFrame."""
        from matterstack.notebook.table_view import TableView

        return TableView(self)

    @suggesting
    def browse(self, task_id: str, *, iteration: int | None = None, attempt: int | None = None) -> BrowseView:
        """Show an attempt: its logs as they grow, the files that it left, and what it was made from and is used by.

        Parameters
        ----------
        task_id : str
            As the plan names it, or ``<iteration>.<task_id>`` as the index of `tasks` does.
        iteration : int, optional
            By default the latest one that has the task.
        attempt : int, optional
            By default the last one.

        Raises
        ------
        UnknownTaskError
            There is no such task, or it has no such attempt.
        """
        from matterstack.notebook.browse_view import BrowseView

        return BrowseView(self, task_id, iteration, attempt)

    def watch(self) -> Cockpit:
        """Show all of the run live without blocking the notebook, with buttons to step and steer it."""
        from matterstack.notebook.cockpit import Cockpit

        return Cockpit(self)

    def timeline(self, by: str = "operator") -> TimelineView:
        """Show when each attempt waited and ran, live, and where time went.

        Parameters
        ----------
        by : {'operator', 'function', 'iteration', 'group'}
            What stands together; see `time_spent`.

        Raises
        ------
        PlotError
            `by` is none of these.
        """
        from matterstack.notebook.timeline_view import TimelineView

        return TimelineView(self, by)

    def plot_timeline(self, axes: Any = None) -> Any:
        """Draw when each attempt ran, by operator; see `matterstack.notebook.timeline.plot_timeline`.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            Where to draw; by default new ones.

        Raises
        ------
        MissingLibraryError
            There is no matplotlib.
        """
        from matterstack.notebook.timeline import plot_timeline

        return plot_timeline(self, axes)

    def plot(self, name: str, *, best: str = "max", by: str = "time", axes: Any = None) -> Any:
        """Draw a column of `results`, a dot per task, and the best so far as a line.

        Parameters
        ----------
        name : str
            The column.
        best : {'max', 'min'}
            Whether the largest is the best, or the smallest.
        by : {'time', 'result', 'iteration'}
            What is drawn to the right.
        axes : matplotlib.axes.Axes, optional
            Where to draw; by default new ones.

        Returns
        -------
        matplotlib.axes.Axes
            With the drawing, to label and to save.

        Raises
        ------
        PlotError
            No result has such a column, it holds no numbers, or an argument is none of these.
        """
        from matterstack.notebook.best_so_far import plot_best_so_far

        return plot_best_so_far(self, name, best, by, axes)

    @suggesting
    def scatter(
        self, x: str, y: str, *, colour: str | None = None, best: Mapping[str, str] | None = None
    ) -> ScatterView:
        """Show results as points, live, over two of their columns; a click on a point tells all about its task.

        Parameters
        ----------
        x, y : str
            Columns of `results`, of numbers or of a few words; parameters of the tasks; or ``"time"``, ``"result"`` and
            ``"iteration"``, as in `plot`.
        colour : str, optional
            Another such column.
        best : mapping of str to {'max', 'min'}, optional
            What shall be large or small, as in ``{"energy_eV": "min", "strength": "max"}``; by default `target`. The
            results that no other beats stand out, with a line along them, and are listed.

        Raises
        ------
        PlotError
            No result has such a column, or ``best`` makes no sense.
        """
        from matterstack.notebook.scatter import ScatterView

        return ScatterView(self, x, y, colour, best)

    def explain(self) -> Explanation:
        """Return what holds the run up, since when, and what to do about each."""
        from matterstack.orchestration.explain import explain

        return explain(self._session)

    def inbox(self) -> Inbox:
        """Return what waits for an answer: of whom, since when, where, and why the last one was refused."""
        from matterstack.notebook.inbox import Inbox
        from matterstack.orchestration.requests import waiting

        return Inbox(waiting(self.store, self._session.directory), lambda _: self)

    # -- room on disk ----------------------------------------------------------------------

    @property
    def disk_usage(self) -> pd.DataFrame:
        """What the run takes on disk, by operator and function: bytes, and files, of which a quota may allow fewer.

        A file that has several names counts once, where the run keeps it; folders and links are files, too.
        """
        return disk.usage(self._session.directory, self.store)

    @suggesting
    def clean(self, *, earlier_attempts: bool = True, scratch: bool = True, do: bool = False) -> Cleaning:
        """Show what can be made again and may go, and how much that is; with ``do=True`` remove it.

        Parameters
        ----------
        earlier_attempts : bool
            Directories of attempts that were not the last one, at commands and calls of tasks that are over. What is
            known of them, and their rows in every table, stay.
        scratch : bool
            What ``scratch`` of `Task` names, of tasks that nobody waits for any more: of those of earlier iterations
            also where they failed.
        do : bool
            Whether to remove it.

        Returns
        -------
        Cleaning
            A sequence, a member per attempt; its ``frame`` is a table, and ``left`` says what cannot go, and why.

        Raises
        ------
        RunStatusError
            Something is under way; nothing was removed.
        RunLockedError
            Another process is stepping the run.
        """
        return cleaning.clean(self._session, earlier_attempts=earlier_attempts, scratch=scratch, do=do)

    def pack(self) -> Packing:
        """Put the attempts of earlier iterations into archives, from which all that reads them reads on.

        An archive is on disk, read again and compared, before its attempts are removed. What holds a device or a
        pipe, and what may still be alive, is left as it is. `file` and `task_directory` give a copy then, which
        lives as long as this process.

        Returns
        -------
        Packing
            A sequence, a member per archive; its ``frame`` is a table, and ``left`` says what was not packed, and why.

        Raises
        ------
        RunLockedError
            Another process is stepping or packing the run.
        DiskError
            There is no room for an archive; nothing was lost.
        """
        from matterstack.orchestration.packing import pack

        return pack(self._session)

    # -- handing on -----------------------------------------------------------------------

    def verify(self) -> Verification:
        """Look whether every file that the run's record names is there, and is what the record says.

        Outputs by their hashes; files, programs and arguments that the run keeps; answers of people, with what the
        database has of them; kits by their manifests; archives. What was removed on purpose, or left out of an export,
        is told apart from what is missing. Nothing is written, and nothing is run.

        Returns
        -------
        Verification
            True where all is as recorded; its ``frame`` has what differs.

        Examples
        --------
        >>> import tempfile
        >>> import matterstack as ms
        >>> flow = ms.Workflow([ms.Task("relax", "echo 1.23 > final.xyz", outputs=["final.xyz"])])
        >>> run = ms.initialize_run("demo", flow, base_path=tempfile.mkdtemp(), run_id="r")
        >>> run.wait()
        <RunStatus.COMPLETED: 'COMPLETED'>
        >>> run.verify()
        Run r: all is as recorded. Of 1 files that the record names: 1 as recorded.
        >>> _ = run.file("relax", "final.xyz").write_text("1.24")
        >>> run.verify().frame["status"]
        attempt
        0.relax.1    changed
        Name: status, dtype: str
        """
        from matterstack.evidence.verification import verify

        return verify(self._session)

    def export(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        zip: bool = False,  # noqa: A002
        files: str = "declared",
    ) -> Path:
        """Write the run for others: a report, tables, a record for programs, an RO-Crate, and the run itself.

        It is of one moment, and may be taken of a run that is under way: no lock is taken, and nothing of the run is
        changed. The same run gives the same bytes. What is written is a run that `open_run` opens, untrusted.
        See ``docs/evidence.md``.

        Parameters
        ----------
        path : path-like, optional
            Where, which must not be there yet; by default ``<workspace>-<run_id>`` here.
        zip : bool
            Write a zip file in place of a directory. Whatever it is called, all in it lies in one folder,
            ``<workspace>-<run_id>``.
        files : {'declared', 'all', 'none'}
            Which files of attempts are in it: what the plan and the record name, all, or none. What the run was given,
            and the source of its functions and campaign, always are.

        Returns
        -------
        pathlib.Path
            Of the directory or zip file that was written.

        Raises
        ------
        ExportError
            Something is there already, or ``files`` is none of these; nothing was written.
        DiskError
            There is no room.
        """
        from matterstack.evidence.export import export

        return export(self._session, path, as_zip=zip, files=files)

    # -- acting ---------------------------------------------------------------------------

    def pause(self, reason: str = "paused by a person") -> Run:
        """Stop submitting. What is under way goes on, and every step polls it.

        Parameters
        ----------
        reason : str
            Kept with the run, and shown where it stands.

        Raises
        ------
        RunStatusError
            The run is not RUNNING.
        RunLockedError
            Another process is stepping the run.
        """
        controls.pause(self._session, reason)
        return self

    def resume(self) -> Run:
        """Submit again, also to operators that were suspended.

        Raises
        ------
        RunStatusError
            The run is not PAUSED.
        RunLockedError
            Another process is stepping the run.
        """
        controls.resume(self._session)
        return self

    @suggesting
    def cancel_task(
        self,
        task_id: str | Sequence[str] | None = None,
        *,
        group: str | None = None,
        reason: str = "cancelled by a person",
    ) -> Run:
        """Cancel tasks of the current iteration; what waits for them is skipped, and the run goes on.

        The next step stops what is under way. `retry` gives them another chance.

        Parameters
        ----------
        task_id : str or sequence of str, optional
            One task or several.
        group : str, optional
            Or all of a group that are not over.
        reason : str
            Kept with them.

        Raises
        ------
        UnknownTaskError, RunStatusError
            There is no such task, or it is over; nothing was changed.
        """
        controls.cancel_tasks(self._session, _names(task_id), group, reason)
        return self

    @suggesting
    def hold(
        self, task_id: str | Sequence[str] | None = None, *, group: str | None = None, reason: str = "held by a person"
    ) -> Run:
        """Keep tasks back: they are not submitted until `release`; an attempt that is under way goes on.

        Parameters
        ----------
        task_id : str or sequence of str, optional
            One task or several.
        group : str, optional
            Or all of a group that are not over.
        reason : str
            Kept with them.

        Raises
        ------
        UnknownTaskError, RunStatusError
            There is no such task, or it is over; nothing was changed.
        """
        controls.hold(self._session, _names(task_id), group, reason)
        return self

    @suggesting
    def release(self, task_id: str | Sequence[str] | None = None, *, group: str | None = None) -> Run:
        """Let tasks go on that `hold` keeps back; all of them where none are named.

        Parameters
        ----------
        task_id : str or sequence of str, optional
            One task or several.
        group : str, optional
            Or all of a group.

        Raises
        ------
        UnknownTaskError, RunStatusError
            There is no such task, or it is not held; nothing was changed.
        """
        controls.release(self._session, _names(task_id), group)
        return self

    @suggesting
    def tag(self, *tags: str, task_id: str | Sequence[str] | None = None) -> Run:
        """Add words by which the run is found, or tasks of it; whatever their status.

        Parameters
        ----------
        *tags : str
            Of 1 to 64 characters, without a comma; a run or a task has 32 at most.
        task_id : str or sequence of str, optional
            Which tasks; by default the run itself.

        Raises
        ------
        InvalidConfigError, UnknownTaskError
            What is no tag, or no task; nothing was changed.

        Examples
        --------
        >>> import tempfile
        >>> import matterstack as ms
        >>> flow = ms.Workflow([ms.Task("relax", "true", tags="cathode")])
        >>> run = ms.initialize_run("oxides", flow, base_path=tempfile.mkdtemp(), tags=["batch 2"])
        >>> run.tag("for the paper").tag("converged", task_id="relax").tags
        ('batch 2', 'for the paper')
        >>> run.tasks.loc["0.relax", "tags"]
        'cathode, converged'
        """
        tagging.tag(self._session, tags, _names(task_id))
        return self

    @suggesting
    def untag(self, *tags: str, task_id: str | Sequence[str] | None = None) -> Run:
        """Take away words that `tag` or the plan gave; otherwise as `tag`. One that is not there is none to take.

        Parameters
        ----------
        *tags : str
            The words.
        task_id : str or sequence of str, optional
            Which tasks; by default the run itself.

        Raises
        ------
        InvalidConfigError, UnknownTaskError
            What is no tag, or no task; nothing was changed.
        RunLockedError
            Another process is stepping the run.
        """
        tagging.tag(self._session, tags, _names(task_id), away=True)
        return self

    def reopen(self, campaign: Campaign | None = None) -> Run:
        """Ask the campaign of a run that is COMPLETED for its next plan, with its state; the run goes on with that.

        Where it plans nothing more, the run stays COMPLETED, and `reason` says so. One that streams and has no
        ``plan`` gets another iteration, to which its ``update`` adds.

        Parameters
        ----------
        campaign : Campaign, optional
            Another one, that is kept with the run from now on; by default the one it has.

        Raises
        ------
        RunStatusError
            The run is not COMPLETED.
        CampaignError, WorkflowError
            There is no campaign, or what it plans cannot be run; nothing was changed.
        RunLockedError
            Another process is stepping the run.
        """
        controls.reopen(self._session, campaign)
        return self

    def cancel(self, reason: str = "cancelled by a person", *, timeout_s: float = 10.0) -> Run:
        """End the run: nothing more is submitted, and what is under way is stopped.

        Parameters
        ----------
        reason : str
            Kept with the run.
        timeout_s : float
            How long to wait until everything has stopped; further steps see to the rest.

        Raises
        ------
        RunStatusError
            The run is COMPLETED or FAILED.
        UntrustedRunError
            You have neither made the run nor trusted it.
        RunLockedError
            Another process is stepping the run.
        """
        if controls.cancel(self._session, reason):
            loop.until_stopped(self._session, timeout_s)
        return self

    @suggesting
    def retry(
        self,
        task_id: str | Sequence[str] | None = None,
        *,
        iteration: int | None = None,
        files: Mapping[str, FileSource | None] | None = None,
        arguments: Mapping[str, Any] | None = None,
        resources: Resources | Mapping[str, Any] | None = None,
        command: str | Sequence[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        as_planned: bool = False,
    ) -> Run:
        r"""Give tasks that are over another chance, as they are or mended, and with them all that waits for them.

        What is changed holds for all further attempts of the tasks that are named, and a later word adds to it, name by
        name. Each attempt keeps what it was made with; `attempts` shows it.

        Parameters
        ----------
        task_id : str or sequence of str, optional
            One task or several; every failed one when left out.
        iteration : int, optional
            The iteration they are of. Only those of the current one can be retried, so naming it
            makes sure that no task of the same name is meant.
        files : mapping, optional
            Files in place of, or besides, those of the plan, as `Task` takes them. A ``FromTask`` of the task itself
            with ``attempt=-1`` is what its last attempt that left the file has left. None: as it was planned.
        arguments : mapping, optional
            Of the call of a function: arguments by name.
        resources : Resources or mapping, optional
            All resources; or some, as ``{"walltime_s": 7200}``, where None is as it was planned.
        command : str or sequence of str, optional
            Another command.
        env : mapping, optional
            Environment variables; None: as it was planned.
        as_planned : bool
            Drop what earlier words have changed.

        Raises
        ------
        UnknownTaskError, RunStatusError
            There is no such task, or it cannot be retried now; nothing was changed.
        InvalidTaskError, UnsafePathError
            A task cannot be changed so; nothing was changed.

        Examples
        --------
        >>> import tempfile
        >>> import matterstack as ms
        >>> flow = ms.Workflow([ms.Task("relax", "grep -q fine INCAR", files={"INCAR": "EDIFF=1\n"})])
        >>> run = ms.initialize_run("demo", flow, base_path=tempfile.mkdtemp())
        >>> run.wait()
        <RunStatus.FAILED: 'FAILED'>
        >>> run.retry("relax", files={"INCAR": "fine\n"}).wait()
        <RunStatus.COMPLETED: 'COMPLETED'>
        """
        controls.retry(
            self._session, _names(task_id), iteration, Mend(files, env, arguments, resources, command, as_planned)
        )
        return self

    @suggesting
    def respond(self, task_id: str, answer: Any, *, iteration: int | None = None, attempt: int | None = None) -> Run:
        """Answer a request; the next step takes the answer up.

        Parameters
        ----------
        task_id : str
            As the plan names it, or ``<iteration>.<task_id>``; `inbox` lists the tasks that wait.
        answer : JSON data
            Validated against the task's schema before anything is changed.
        iteration, attempt : int, optional
            Which request of the task: as in its `Request` of `inbox`. By default the one of the
            current iteration that waits.

        Raises
        ------
        AnswerRefusedError
            It violates the schema.
        AnswerConflictError
            Somebody else answered first, or the request that is named is over.
        UnknownTaskError, RunStatusError
            The task does not wait for an answer.
        """
        from matterstack.orchestration.requests import respond

        respond(self._session, task_id, answer, iteration=iteration, attempt=attempt)
        return self

    def export_kits(self, archive: str | os.PathLike[str]) -> list[str]:
        """Pack every kit that waits to be carried away into a zip archive.

        Parameters
        ----------
        archive : path-like
            Where; a zip archive that is there is replaced, and no other file is.

        Returns
        -------
        list of str
            Names of the attempts in it.

        Raises
        ------
        RunStatusError
            No kit waits; nothing was written.
        KitError
            A kit is not as it was made, or what has that name is no zip archive; nothing was written.
        """
        return kits.export_kits(self._session, Path(archive))

    def import_kits(self, archive: str | os.PathLike[str], *, max_gib: float = 20.0) -> Imported:
        """Take results home from an archive, zip or tar.gz: in any order, partly, twice.

        Parameters
        ----------
        archive : path-like
            Of kits as they were exported, each with its results put in; what else lies in it is left out.
        max_gib : float
            Most GiB to unpack.

        Returns
        -------
        Imported
            Names of attempts: ``taken``, ``known`` already, ``without_results`` yet, and ``late`` where the
            attempt had failed before (see `take_late`); and the files that were ``left_out``.

        Raises
        ------
        KitError
            It is damaged, altered, unsafe, too large or of another run; nothing was changed.
        RunLockedError
            Another process is stepping the run.
        """
        return kits.import_kits(self._session, Path(archive), max_gib)

    def configure(
        self, operator: str | None = None, *, budget: Mapping[str, float | None] | None = None, **settings: Any
    ) -> Run:
        """Change settings of an operator, as ``configure("local", max_active=8)``, or the run's budget, while it lives.

        They are kept with the run, and every process takes them up at its next tick, except where `open_run` was given
        an operator of that name: that one counts there.

        Parameters
        ----------
        operator : str, optional
            Its name in this run.
        budget : mapping, optional
            The most the run may spend, as ``{"tasks": 500, "core_h": 100, "wall_h": 48}``; what is not named stays, and
            None is no limit. Where it was spent, `resume` goes on.
        **settings
            Arguments of its class; those that are not named stay as they are. Without an operator, ``notify`` is whom
            the run tells, as ``initialize_run(config={"notify": ...})`` takes it; None for nobody.

        Raises
        ------
        UnknownOperatorError, InvalidConfigError
            There is no such operator, or it cannot be set so; nothing was changed.
        RunLockedError
            Another process is stepping the run.
        """
        if operator is not None and budget is None:
            configure(self._session, operator, settings)
        elif operator is None and budget is not None and not settings:
            configure_budget(self._session, budget)
        elif operator is None and budget is None and set(settings) == {"notify"}:
            configure_notify(self._session, settings["notify"])
        else:
            raise InvalidConfigError(
                "name the operator, as in run.configure('local', max_active=8), or the budget of the run, as in "
                "run.configure(budget={'tasks': 500}), or whom it tells, as in run.configure(notify='env:MY_ADDRESS')"
            )
        return self

    def tell(self, text: str = "a trial") -> Run:
        """Send a notice of your own to whom the run tells, and wait until it has got there: to try that, or to use it.

        Parameters
        ----------
        text : str
            What the notice says, in place of what became of the run.

        Raises
        ------
        InvalidConfigError
            The run tells nobody; ``configure(notify=...)`` says whom.
        NoticeError
            It did not reach everybody; the message says whom not, and why.
        UntrustedRunError
            You have neither made the run nor trusted it.
        RunLockedError
            Another process is stepping the run.
        """
        from matterstack.orchestration.telling import trial

        trial(self._session, text)
        return self

    def take_environment(self) -> Run:
        """Say that the run goes on in what this process runs in, for a daemon that steps it; see ``docs/daemon.md``.

        Its Python, the packages that it imports, and the variables that a run records stand in for those of before.

        Raises
        ------
        RunLockedError
            Another process is stepping the run.
        """
        take_environment(self._session)
        return self

    def take_late(
        self,
        task_id: str,
        archive: str | os.PathLike[str] | None = None,
        *,
        attempt: int | None = None,
        max_gib: float = 20.0,
    ) -> Run:
        """Take in, on your word, results of a kit that came after its attempt had failed; the task goes on with them.

        The failed attempt stays as it is. The next one, which is made if there is none, gets its results, and the next
        step collects them. They have to be whole, and made from the inputs that the task has now.

        Parameters
        ----------
        task_id : str
            A task of the current iteration, that has failed or is being tried again.
        archive : path-like, optional
            Where they are; by default they were put into the directory of the attempt.
        attempt : int, optional
            Whose results they are; by default those of the last attempt that failed.
        max_gib : float
            Most GiB to unpack.

        Raises
        ------
        KitError
            They are not whole, or were made from other inputs.
        UnknownTaskError, RunStatusError
            There is no such attempt, or the task takes no results now.
        RunLockedError
            Another process is stepping the run.
        """
        late_results.take_late(self._session, task_id, None if archive is None else Path(archive), attempt, max_gib)
        return self

    def declare_lost(self, task_id: str) -> Run:
        """Note on your word that a task's live attempt is dead, where nobody can be asked any more.

        Parameters
        ----------
        task_id : str
            A task of the current iteration.

        Raises
        ------
        UnknownTaskError
            There is no such task.
        RunStatusError
            It has no attempt that is submitted or running.
        RunLockedError
            Another process is stepping the run.
        """
        controls.declare_lost(self._session, task_id)
        return self


def _names(given: str | Sequence[str] | None) -> Sequence[str] | None:
    return [given] if isinstance(given, str) else given
