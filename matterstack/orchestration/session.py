"""A session: the directory, store, operators, campaign and settings of one run, opened by one process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matterstack import interrupts
from matterstack.core.attempts import Attempt, LiveAttempt
from matterstack.core.snapshot import Stream
from matterstack.core.targets import targets_of
from matterstack.core.text import did_you_mean
from matterstack.errors import InvalidConfigError, LockError, StoreError
from matterstack.functions.campaign import Campaign
from matterstack.operators import describe, rebuild
from matterstack.operators.base import Operator
from matterstack.orchestration import campaigns, environment, trusting
from matterstack.orchestration.budget import Budget, Ledger
from matterstack.orchestration.programs import KeptProgram
from matterstack.orchestration.reservations import Reservations
from matterstack.storage import trust
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory
from matterstack.storage.run_lock import RunLock, check_exclusion
from matterstack.storage.state_store import SQLiteStateStore

if TYPE_CHECKING:
    from matterstack.cache import Cache
    from matterstack.core.task import Task
    from matterstack.notices.sinks import Notify
    from matterstack.orchestration.monitors import Monitors
    from matterstack.orchestration.teller import Teller


NO_LIMIT = Budget()


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``initialize_run(config=...)`` may set.

    Parameters
    ----------
    suspend_after : int
        How often in a row an operator may fail to answer before nothing new goes to it.
    made_from : bool
        Whether to record of each attempt what it was made from: its inputs, what it ran in, hashes of what it left.
    budget : mapping
        The most it may spend: ``tasks``, ``core_h``, ``wall_h``; see `matterstack.orchestration.budget.Spent`.
    target : mapping
        Which columns of the results shall be large or small, as in ``{"strength": "max"}``; by default what its
        campaign says. Views show the best so far.
    environment : list of str
        Variables to record besides those that always are, for a daemon that steps the run; see ``docs/daemon.md``.
    notify : mapping, or one sink or several
        Whom the run tells what becomes of it, and of what; see ``docs/notices.md``.
    """

    suspend_after: int = 10
    made_from: bool = True
    budget: Budget = NO_LIMIT
    target: Mapping[str, str] = field(default_factory=dict)
    environment: tuple[str, ...] = ()
    notify: Notify | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | None) -> Settings:
        """Check and take what the user gave.

        Raises
        ------
        InvalidConfigError
            An unknown name, or a value of the wrong kind.
        """
        values = dict(config or {})
        known = [field.name for field in fields(cls)]
        if unknown := sorted(values.keys() - set(known)):
            hint = did_you_mean(unknown[0], known)
            raise InvalidConfigError(f"unknown setting {unknown[0]!r} in config{hint}; there is: {', '.join(known)}")
        for name, value in values.items():
            if name == "budget":
                values[name] = Budget.from_config(value)
            elif name == "target":
                values[name] = targets_of(value, "config: target", InvalidConfigError)
            elif name == "environment":
                values[name] = environment.check_names(value)
            elif name == "notify":
                values[name] = _notify_of(value)
            elif name == "made_from":
                if not isinstance(value, bool):
                    raise InvalidConfigError(f"config: {name} must be True or False, not {value!r}")
            elif not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidConfigError(f"config: {name} must be a positive whole number, not {value!r}")
        return cls(**values)


def _notify_of(given: object) -> Notify | None:
    if given is None:
        return None
    from matterstack.notices.sinks import Notify  # most runs tell nobody

    return Notify.from_config(given)


@dataclass
class Session:
    """One run, opened by one process.

    Attributes
    ----------
    directory : RunDirectory
    reader : StoreReader
        What looks into the database.
    operators : mapping of str to Operator
        Those this process was given or could rebuild.
    settings : Settings
    campaign : Campaign or None
        As given; None where it is imported when first needed, or has to be passed again.
    reference : str or None
        How a campaign is made again; see `campaigns`.
    missing : tuple of str
        Operators of the run that have to be passed again.
    own : frozenset of str
        Operators that `open_run` was given: no settings of the run's count for them.
    campaign_kept : str or None
        How config.json made the campaign again when it was read; empty before. Where it says otherwise, that counts.
    ledger : Ledger
        What the run has spent, as far as it was asked.
    reservations : Reservations
        What it holds of limits across runs.
    given_cache : Cache or None
        That of the run, for all calls that do not say otherwise.
    """

    directory: RunDirectory
    reader: StoreReader
    operators: Mapping[str, Operator]
    settings: Settings
    campaign: Campaign | None = None
    reference: str | None = None
    missing: tuple[str, ...] = ()
    own: frozenset[str] = frozenset()
    given_cache: Cache | None = None
    campaign_kept: str | None = ""
    ledger: Ledger = field(default_factory=Ledger)
    reservations: Reservations = field(init=False)
    _config: tuple[int, ...] | None = None
    _store: SQLiteStateStore | None = None
    _cache: Cache | None = None
    _teller: Teller | None = None
    _trusted: bool = False
    _excludes: bool = False
    _streams_not: int | None = None
    _programs: dict[str, KeptProgram] = field(default_factory=dict)
    _monitors: dict[str, Monitors] = field(default_factory=dict)
    _identity: tuple[int, int] | None = field(init=False)

    def __post_init__(self) -> None:
        self._identity = self.directory.identity()
        self.reservations = Reservations(self.directory)

    def require_place(self) -> None:
        """Raise unless the directory at the run's path is the one that was opened.

        Raises
        ------
        RunNotFoundError
            It was moved or removed; another run may be in its place, and nothing was done to that.
        """
        if self.directory.identity() != self._identity:
            raise self.directory.moved(self._identity)

    @contextmanager
    def locked(self) -> Iterator[SQLiteStateStore]:
        """Hold the run's lock, and yield what writes: it commits nothing once the lock is lost.

        What a killed writer left is recovered now, after a look at the files. Interrupts are held; see `interrupts`.

        Raises
        ------
        RunNotFoundError
            The directory that was opened is not there any more.
        RunLockedError
            Somebody else holds it.
        LockUnsupportedError
            The file system does not lock, or gives one lock to two holders.
        StoreError
            The database cannot be used; nothing was changed.
        """
        with interrupts.held(), self._locked() as store:
            yield store

    @contextmanager
    def _locked(self) -> Iterator[SQLiteStateStore]:
        # Apart, so that the lock is not only free but gone when interrupts are heard again: Python drops what is
        # raised while it removes an object.
        self.require_place()
        try:
            with RunLock(self.directory.lock) as lock:
                self.require_place()  # from here on the lock tells
                if not self._excludes:  # once: it may have come to another file system since it was made
                    check_exclusion(self.directory.lock)
                    self._excludes = True
                self.directory.check_folders(self.operators)
                if self._store is not None:
                    self._store.check_files()
                with self.store.guarded(lock.check):
                    self._take_settings()
                    yield self.store
        except (StoreError, LockError, InvalidConfigError, FileNotFoundError):
            self.require_place()  # a directory that was moved meanwhile says more
            raise

    def _take_settings(self) -> None:
        """Take up settings of operators that were changed since the last look; see `configure`."""
        found = self.directory.config_stamp()
        if found == self._config:
            return
        operators = dict(self.operators)
        try:
            config = self.directory.read_config()
            if self.campaign_kept not in ("", config["campaign"]):
                self.campaign, self.reference = None, config["campaign"]  # the run was reopened with another one
            self.settings = Settings.from_config(config["settings"])
            self.campaign_kept = config["campaign"]
            for name, described in config["operators"].items():
                current = operators.get(name)
                if current is None or name in self.own or described is None or described["settings"] is None:
                    continue
                if json.loads(json.dumps(describe(current))) != described:
                    operators[name] = rebuild(described["kind"], described["settings"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidConfigError(f"{self.directory.config} cannot be used: {error!r}") from error
        self.operators, self._config = operators, found

    def take_campaign(self, campaign: Campaign) -> None:
        """Go on with another campaign, and keep it with the run."""
        campaigns.keep(campaign, self.directory)
        self.campaign, self.campaign_kept = campaign, self.directory.read_config()["campaign"]

    def trust_made_here(self) -> None:
        """Trust the run in this session: this process has made it."""
        self._trusted = True

    def require_trust(self) -> None:
        """Raise unless this user made the run, or has said that it may be stepped.

        Raises
        ------
        UntrustedRunError
            Naming what stepping it would run; nothing of it was run.
        """
        if not self._trusted:
            self.require_place()
        if not self.is_trusted():
            self.require_place()  # where it was moved meanwhile, its word was looked for in vain
            raise trust.refusal(self.directory.path, trusting.would_run(self.directory, self.reader))

    def is_trusted(self) -> bool:
        """Return whether this user made the run, or has said that it may be stepped."""
        self._trusted = self._trusted or trusting.is_trusted(self.directory)
        return self._trusted

    @property
    def cache(self) -> Cache:
        """The cache of the tasks that are cached: that of the run, else of its workspace, else in its own directory."""
        if self._cache is None:
            from matterstack.cache import Cache

            home = self.directory.workspace or self.directory.path
            self._cache = self.given_cache or Cache(home / "cache")
        return self._cache

    @property
    def teller(self) -> Teller:
        """Who tells of the run, in this process."""
        if self._teller is None:
            from matterstack.orchestration.teller import Teller

            self._teller = Teller()
        return self._teller

    def caches(self, task: Task) -> bool | str:
        """Return whether a task is cached: True, ``"read"``, or False."""
        if task.command is None:
            return False  # a person's answer, or an instrument's
        return task.cache if task.cache is not None else self.given_cache is not None and task.call is not None

    def stream(self, reader: StoreReader, iteration: int) -> Stream | None:
        """Return how an iteration streams; None where its campaign does not, which is looked for once."""
        if iteration == self._streams_not:
            return None
        found = reader.stream(iteration)
        if found is None:
            self._streams_not = iteration
        return found

    @property
    def store(self) -> SQLiteStateStore:
        """What writes: used under the lock only. The database is opened, and migrated if it is older, at first use."""
        if self._store is None:
            self._store = SQLiteStateStore(self.directory.state, create=False)
        return self._store

    def attempt(self, live: LiveAttempt) -> Attempt:
        """Return an attempt as operators see it."""
        return Attempt(live, str(self.directory.operator(live.operator)), gpus=self.reservations.gpus(live.token))

    def monitors_of(self, operator: str) -> Monitors | None:
        """Return who looks at attempts of an operator that run; None where it has no handlers that could."""
        handlers = self.operators[operator].monitors()
        if not handlers:
            return None
        if operator not in self._monitors or self._monitors[operator].handlers is not handlers:
            from matterstack.orchestration.monitors import Monitors  # most runs have none

            self._monitors[operator] = Monitors(handlers)
        return self._monitors[operator]

    def home(self, operator: str, iteration: int, task_id: str, attempt: int) -> Path:
        """Return the directory of an attempt that is over; of one that was packed, a copy of it.

        Raises
        ------
        UnsafeFileError
            The archive that it is in is damaged.
        OSError
            There is no room to unpack it.
        """
        home = self.directory.attempt(operator, iteration, task_id, attempt)
        if os.path.lexists(home):
            return home
        from matterstack.storage.archives import home_of  # a tick wants it for nothing else

        return home_of(self.directory, self.reader, operator, iteration, task_id, attempt)

    def program(self, sha256: str) -> KeptProgram:
        """Return what runs calls of a function; it is read once.

        Raises
        ------
        FileNotFoundError, UnsafeFileError
            A part of it is lost, or was changed.
        """
        if sha256 not in self._programs:
            self._programs[sha256] = KeptProgram(self.directory, sha256)
        return self._programs[sha256]

    def results_folder(self, operator: str) -> str:
        """Return where in its attempts' directories an operator leaves results."""
        known = self.operators.get(operator)
        return known.traits.results_folder if known is not None else ""

    def load_campaign(self) -> Campaign | None:
        """Return the campaign, made again now if it has to be; None when it has to be passed.

        Raises
        ------
        CampaignError
            What the run keeps of it cannot be imported or made.
        """
        if self.campaign is None and self.reference is not None:
            self.campaign = campaigns.load(self.reference, self.directory)
        return self.campaign
