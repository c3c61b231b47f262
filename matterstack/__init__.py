"""MatterStack: a run that you can step from a notebook cell, kill at any instant, and hand to a colleague."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matterstack import exchange, optimizers
    from matterstack.cache import Cache
    from matterstack.core.resources import Resources
    from matterstack.core.results import TaskResult, TickReport
    from matterstack.core.schemas import Approve
    from matterstack.core.states import AttemptStatus, RunStatus, TaskStatus
    from matterstack.core.task import FromTask, Task
    from matterstack.functions import values
    from matterstack.functions.campaign import Campaign, Update
    from matterstack.functions.function import task
    from matterstack.functions.workflow import Workflow
    from matterstack.notebook.structure_view import show_structure
    from matterstack.operators.jobs.dask import DaskOperator
    from matterstack.operators.jobs.slurm import SlurmOperator
    from matterstack.operators.local.operator import LocalOperator
    from matterstack.operators.requests.experiment import ExperimentOperator
    from matterstack.operators.requests.human import HumanOperator
    from matterstack.operators.requests.manual_hpc import ManualHPCOperator
    from matterstack.orchestration.find import find_file, find_tasks, results
    from matterstack.run import Run
    from matterstack.run_lifecycle import initialize_run, open_run, preview, step_run, trust
    from matterstack.storage.reader import StoreReader
    from matterstack.workspace import compare, inbox, limits, release_reservations, runs, set_limits, watch

__version__ = "0.2.1"

#: Where each public name is; it is imported when it is first used.
_HOMES = {
    "Cache": "cache",
    "Campaign": "functions.campaign",
    "Update": "functions.campaign",
    "Approve": "core.schemas",
    "TaskResult": "core.results",
    "TickReport": "core.results",
    "AttemptStatus": "core.states",
    "RunStatus": "core.states",
    "TaskStatus": "core.states",
    "FromTask": "core.task",
    "Resources": "core.resources",
    "Task": "core.task",
    "Workflow": "functions.workflow",
    "task": "functions.function",
    "values": "functions.values",
    "optimizers": "optimizers",
    "exchange": "exchange",
    "LocalOperator": "operators.local.operator",
    "ExperimentOperator": "operators.requests.experiment",
    "HumanOperator": "operators.requests.human",
    "ManualHPCOperator": "operators.requests.manual_hpc",
    "SlurmOperator": "operators.jobs.slurm",
    "DaskOperator": "operators.jobs.dask",
    "StoreReader": "storage.reader",
    "show_structure": "notebook.structure_view",
    "Run": "run",
    "find_file": "orchestration.find",
    "find_tasks": "orchestration.find",
    "results": "orchestration.find",
    "initialize_run": "run_lifecycle",
    "open_run": "run_lifecycle",
    "preview": "run_lifecycle",
    "step_run": "run_lifecycle",
    "trust": "run_lifecycle",
    "compare": "workspace",
    "inbox": "workspace",
    "limits": "workspace",
    "release_reservations": "workspace",
    "runs": "workspace",
    "set_limits": "workspace",
    "watch": "workspace",
}

__all__ = [
    "Approve",
    "AttemptStatus",
    "Cache",
    "Campaign",
    "DaskOperator",
    "ExperimentOperator",
    "FromTask",
    "HumanOperator",
    "LocalOperator",
    "ManualHPCOperator",
    "Resources",
    "Run",
    "RunStatus",
    "SlurmOperator",
    "StoreReader",
    "Task",
    "TaskResult",
    "TaskStatus",
    "TickReport",
    "Update",
    "Workflow",
    "__version__",
    "compare",
    "exchange",
    "find_file",
    "find_tasks",
    "inbox",
    "initialize_run",
    "limits",
    "open_run",
    "optimizers",
    "preview",
    "release_reservations",
    "results",
    "runs",
    "set_limits",
    "show_structure",
    "step_run",
    "task",
    "trust",
    "values",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        home = importlib.import_module(f"matterstack.{_HOMES[name]}")
        value = home if name in {"exchange", "optimizers", "values"} else getattr(home, name)
        globals()[name] = value
        return value
    from matterstack.core.text import did_you_mean

    raise AttributeError(f"module 'matterstack' has no attribute {name!r}{did_you_mean(name, __all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """Add ``%ms`` to a notebook: ``%load_ext matterstack``."""
    from matterstack.magics import register

    register(shell)
