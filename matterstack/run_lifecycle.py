"""Beginning a run, opening it, and stepping it."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from matterstack import __version__
from matterstack.core.keywords import suggesting
from matterstack.core.results import TickReport
from matterstack.core.snapshot import RunRecord
from matterstack.core.states import RunStatus
from matterstack.core.strict_json import dump_json, to_text
from matterstack.core.tags import tags_of
from matterstack.core.targets import targets_of
from matterstack.core.task import Task
from matterstack.errors import (
    CampaignError,
    InvalidConfigError,
    MatterstackError,
    RunExistsError,
    RunNotFoundError,
)
from matterstack.files import needing_disk
from matterstack.functions.campaign import Campaign, SingleWorkflow
from matterstack.functions.revision import revision
from matterstack.functions.workflow import Workflow
from matterstack.operators import describe, rebuild
from matterstack.operators.base import Operator
from matterstack.orchestration import campaign_calls as planning
from matterstack.orchestration import campaigns, environment, same_plan, tagging, trusting
from matterstack.orchestration.capture import capture
from matterstack.orchestration.findings import check
from matterstack.orchestration.intake import Intake, KeepsNothing
from matterstack.orchestration.opening import cache_of, check_operators, open_session
from matterstack.orchestration.programs import KeptProgram
from matterstack.orchestration.session import Session, Settings
from matterstack.run import Run
from matterstack.storage import trust as trust_records
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory, new_run_directory, runs_root
from matterstack.storage.state_store import SQLiteStateStore

if TYPE_CHECKING:
    from matterstack.cache import Cache
    from matterstack.notebook.preview import Preview

_Planned = TypeVar("_Planned")
log = logging.getLogger("matterstack.lifecycle")


@suggesting
def initialize_run(
    workspace: str,
    plan: Campaign | Workflow,
    *,
    operators: Mapping[str, Operator] | None = None,
    config: Mapping[str, Any] | None = None,
    base_path: str | os.PathLike[str] = ".",
    run_id: str | None = None,
    cache: Cache | str | os.PathLike[str] | None = None,
    tags: Sequence[str] | str = (),
    if_exists: Literal["raise", "open"] = "raise",
) -> Run:
    """Make a new run, with the first iteration planned: all of it, or nothing.

    Parameters
    ----------
    workspace : str
        What the run belongs to.
    plan : Campaign or Workflow
        The strategy, or the one workflow to run.
    operators : mapping of str to Operator, optional
        Who carries out tasks, by the name tasks call them; by default ``"local"`` is a
        `LocalOperator`.
    config : mapping, optional
        Settings of the run, by name: ``docs/reference/settings.md`` lists them.
    base_path : path-like
        Where ``workspaces/`` is.
    run_id : str, optional
        Name of the run; by default the time and a random part.
    cache : Cache or path-like, optional
        Where results are looked for before a function runs, and kept: of all functions that do not say ``cache=False``,
        and of commands that say ``cache=True``. Without it, tasks that say so use ``cache/`` of the workspace.
    tags : sequence of str, or one
        Words of your own by which `matterstack.find_tasks` and `matterstack.runs` know it; `Run.tag` adds more later.
    if_exists : {'raise', 'open'}
        With ``"open"``, a run that there is under this ``run_id`` is opened, as `open_run` does with the same campaign
        and operators: a notebook that is run again from its top goes on.

    Returns
    -------
    Run
        Nothing of it is submitted yet: `Run.step`, `Run.wait` or `Run.watch` begin.

    Raises
    ------
    WorkflowError
        The workflow cannot be run as it stands.
    CampaignError
        The campaign plans nothing, or ``plan`` raised.
    RunExistsError
        The run id is taken; with ``if_exists="open"``, by a run of another workflow or campaign: the message names the
        first task that differs.
    LockUnsupportedError
        The file system does not lock.
    InvalidConfigError
        A setting, an operator or the campaign's ``target`` cannot be used.
    DiskError
        The disk is full, read-only or faulty, or may not be written there.
    """
    if if_exists not in ("raise", "open") or (if_exists == "open" and run_id is None):
        raise InvalidConfigError(f"if_exists must be 'raise', or 'open' together with run_id=..., not {if_exists!r}")
    try:
        return _make(workspace, plan, operators, config, base_path, run_id, cache, tags)
    except RunExistsError:
        if if_exists == "raise":
            raise
    assert run_id is not None
    place = runs_root(base_path, workspace) / run_id
    session = open_session(place, plan if isinstance(plan, Campaign) else None, operators)
    if isinstance(plan, Workflow):
        same_plan.require_same_workflow(session, plan)
    else:
        same_plan.require_same_campaign(session, plan)
    return Run(session)


def _make(
    workspace: str,
    plan: Campaign | Workflow,
    operators: Mapping[str, Operator] | None,
    config: Mapping[str, Any] | None,
    base_path: str | os.PathLike[str],
    run_id: str | None,
    cache: Cache | str | os.PathLike[str] | None,
    tags: Sequence[str] | str,
) -> Run:
    """Make a new run; see `initialize_run`."""
    campaign, given, settings = _check_given(plan, operators, config)
    given_cache = cache_of(cache)
    given_tags = tags_of(tags, tagging.invalid)
    at = time.time()
    if run_id is None:
        run_id = f"{datetime.fromtimestamp(at, UTC):%Y%m%d-%H%M%S}-{os.urandom(3).hex()}"
    key = os.urandom(16).hex()
    content = {
        "matterstack": __version__,
        "key": key,
        "workspace": workspace,
        "run_id": run_id,
        "campaign": campaigns.ONE_WORKFLOW if isinstance(plan, Workflow) else None,
        "operators": {name: describe(operator) for name, operator in given.items()},
        "settings": asdict(settings),
        "environment": environment.here(settings.environment),
        "cache": None if given_cache is None else str(given_cache.path),
    }
    place = runs_root(base_path, workspace) / run_id
    with (
        needing_disk(f"no run can be made at {place}", "or choose another base_path; no run was made"),
        new_run_directory(base_path, workspace, run_id, content) as directory,
    ):
        state, planned = _first(campaign, lambda state: planning.plan(campaign, state, given, directory, begins=True))
        if campaign is plan:
            campaigns.keep(campaign, directory)
        programs = {task.call.program for task, _, _ in planned if task.call is not None}
        kept = (KeptProgram(directory, one) if isinstance(one, str) else one for one in programs)
        packages = {name for program in kept for name in program.packages}
        environment.record_packages(directory, packages)
        calls = campaign is plan or any(task.call is not None for task, _, _ in planned)
        code = to_text(revision(of_modules=calls)) if settings.made_from else None
        final = RunDirectory(directory.path.with_name(run_id))
        store = SQLiteStateStore(directory.state, final=final.state)
        try:
            with store.transaction():
                store.create_run(RunRecord(run_id, workspace, RunStatus.PENDING, None, at, 0, state, given_tags), code)
                store.add_iteration(0, at, planned, planning.places_of(campaign))
        finally:
            store.close()
        # The directory keeps its inode when it gets its name. Where the user's folder cannot be written, this process
        # may step the run all the same, and a later one asks.
        with contextlib.suppress(OSError):
            trust_records.record_run(directory.path, key)
    log.info("made run %s", final.path, extra={"run_id": run_id, "workspace": workspace})
    session = Session(final, StoreReader(final.state), given, settings, campaign, given_cache=given_cache)
    session.trust_made_here()
    return Run(session)


@suggesting
def preview(
    plan: Campaign | Workflow,
    *,
    operators: Mapping[str, Operator] | None = None,
    config: Mapping[str, Any] | None = None,
    cache: Cache | str | os.PathLike[str] | None = None,
) -> Preview:
    """Show what `initialize_run` would make, with all that it would check, and make nothing.

    Parameters
    ----------
    plan : Campaign or Workflow
        Of a campaign the first plan is asked for, and not kept.
    operators : mapping of str to Operator, optional
        As `initialize_run` takes them; nothing is submitted to them.
    config : mapping, optional
        As `initialize_run` takes it.
    cache : Cache or path-like, optional
        As `initialize_run` takes it; ``explain_cache`` of the preview looks there.

    Returns
    -------
    Preview
        Its ``findings`` say what is wrong; ``script(task_id)`` and ``files(task_id)`` what a task would get.

    Raises
    ------
    CampaignError
        The campaign plans nothing, or ``plan`` raised.
    InvalidConfigError
        A setting or an operator cannot be used.

    Examples
    --------
    >>> import matterstack as ms
    >>> flow = ms.Workflow([ms.Task("relax", "no_such_program in.dat"), ms.Task("band", "true", dependencies="relax")])
    >>> ms.preview(flow)
    Preview: 2 tasks; nothing was made
      2 commands, local
      program: task 'relax': there is no program no_such_program in PATH
    """
    from matterstack.notebook.preview import Preview

    campaign, given, _ = _check_given(plan, operators, config)
    _, workflow = _first(campaign, lambda state: planning.next_workflow(campaign, state, begins=True))
    checked = check(workflow, given, Intake(KeepsNothing(), None), doubts=True)
    return Preview(workflow, given, [finding for one in checked for finding in one.findings], cache_of(cache))


def _check_given(
    plan: Campaign | Workflow, operators: Mapping[str, Operator] | None, config: Mapping[str, Any] | None
) -> tuple[Campaign, dict[str, Operator], Settings]:
    if isinstance(plan, Workflow):
        campaign: Campaign = SingleWorkflow(plan)
    elif isinstance(plan, Campaign):
        campaign = plan
    else:
        raise CampaignError(f"plan must be a Campaign or a Workflow, {_not_a_plan(plan)}")
    given = check_operators({"local": rebuild("local", {})} if operators is None else operators)
    settings = Settings.from_config(config)
    if settings.notify is not None:
        settings.notify.require_usable()
    if not settings.target:
        said = targets_of(campaign.target, f"{type(campaign).__name__}.target", InvalidConfigError)
        settings = replace(settings, target=said)
    return campaign, given, settings


def _first(campaign: Campaign, plan: Callable[[str], _Planned | None]) -> tuple[str, _Planned]:
    """Return a campaign's first state, as JSON text, and what it plans from that."""
    with capture() as caught:
        state = dump_json(campaign.initial_state(), "the campaign's initial state", "state")
        planned = plan(state)
    if isinstance(caught.error, MatterstackError):
        raise caught.error
    if caught.error is not None:
        raise CampaignError(
            f"{type(campaign).__name__} could not plan its first iteration "
            f"({type(caught.error).__name__}: {caught.error}); no run was made"
        ) from caught.error
    if planned is None:
        raise CampaignError(f"{type(campaign).__name__}.plan returned None at once: there is nothing to run")
    return state, planned


@suggesting
def open_run(
    path: str | os.PathLike[str],
    campaign: Campaign | None = None,
    operators: Mapping[str, Operator] | None = None,
) -> Run:
    """Open a run that exists: in any kernel, on any day, wherever its directory is now.

    Parameters
    ----------
    path : path-like
        The run's directory.
    campaign : Campaign, optional
        Needed where config.json does not name an importable one. Without it the run still
        polls and submits the current iteration, and stops before ``analyze``.
    operators : mapping of str to Operator, optional
        Operators of your own, and replacements for those that config.json describes.

    Returns
    -------
    Run
        To look at, whoever made it; to step it may need `trust`.

    Raises
    ------
    RunNotFoundError
        There is no run at the path.
    StoreError
        Its database is damaged, foreign or newer; its bytes were left as they are.
    InvalidConfigError
        config.json cannot be used.
    """
    return Run(open_session(path, campaign, operators))


def step_run(run: Run) -> TickReport:
    """Make one tick of a run: poll, plan, execute, analyze.

    Parameters
    ----------
    run : Run
        One whose stepping is trusted; see `trust`.

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
    return run.step()


def trust(path: str | os.PathLike[str]) -> None:
    """Say that you trust a run, or every run below a folder, so that you may step it.

    Stepping a run runs its commands, its campaign, and what its operators name, as you. Looking at it runs nothing, and
    needs no trust. See ``docs/trust.md``.

    Parameters
    ----------
    path : path-like
        A run's directory; or a folder, for all runs that are or will be below it, whoever puts them there.

    Raises
    ------
    RunNotFoundError
        There is no such directory.
    """
    given = Path(path).absolute()
    if not given.is_dir():
        raise RunNotFoundError(f"there is no directory {given}, so there is nothing to trust", path=given)
    directory = RunDirectory(given)
    if os.path.lexists(directory.state):
        trusting.trust_run(directory)
    else:
        trust_records.record_folder(given)


def _not_a_plan(plan: object) -> str:
    """Return what was given instead, and how it is made a plan."""
    if isinstance(plan, Task):
        return f"not a Task: pass Workflow([Task({plan.task_id!r}, ...)])"
    if isinstance(plan, type) and issubclass(plan, Campaign | Workflow):
        return f"not a class: pass {plan.__name__}()"
    if isinstance(plan, list | tuple):
        return f"not a {type(plan).__name__}: pass Workflow([Task(...), ...])"
    return f"not {plan!r:.80}"
