"""MatterStack: a run that you can step from a notebook cell, kill at any instant, and hand to a colleague."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matterstack.core.campaign import Campaign
    from matterstack.core.records import TaskResult, TickReport
    from matterstack.core.schemas import Approve
    from matterstack.core.states import AttemptStatus, RunStatus, TaskStatus
    from matterstack.core.workflow import FromTask, Resources, Task, Workflow
    from matterstack.operators.dask import DaskOperator
    from matterstack.operators.experiment import ExperimentOperator
    from matterstack.operators.human import HumanOperator
    from matterstack.operators.local import LocalOperator
    from matterstack.operators.manual_hpc import ManualHPCOperator
    from matterstack.operators.slurm import SlurmOperator
    from matterstack.orchestration.inbox import inbox
    from matterstack.orchestration.run import Run
    from matterstack.orchestration.run_lifecycle import initialize_run, open_run, runs, step_run
    from matterstack.storage.reader import StoreReader

__version__ = "0.2.1"

#: Where each public name is; it is imported when it is first used.
_HOMES = {
    "Campaign": "core.campaign",
    "Approve": "core.schemas",
    "TaskResult": "core.records",
    "TickReport": "core.records",
    "AttemptStatus": "core.states",
    "RunStatus": "core.states",
    "TaskStatus": "core.states",
    "FromTask": "core.workflow",
    "Resources": "core.workflow",
    "Task": "core.workflow",
    "Workflow": "core.workflow",
    "LocalOperator": "operators.local",
    "ExperimentOperator": "operators.experiment",
    "HumanOperator": "operators.human",
    "ManualHPCOperator": "operators.manual_hpc",
    "SlurmOperator": "operators.slurm",
    "DaskOperator": "operators.dask",
    "Run": "orchestration.run",
    "inbox": "orchestration.inbox",
    "initialize_run": "orchestration.run_lifecycle",
    "open_run": "orchestration.run_lifecycle",
    "runs": "orchestration.run_lifecycle",
    "step_run": "orchestration.run_lifecycle",
    "StoreReader": "storage.reader",
}

__all__ = [
    "Approve",
    "AttemptStatus",
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
    "Workflow",
    "__version__",
    "inbox",
    "initialize_run",
    "open_run",
    "runs",
    "step_run",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"matterstack.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'matterstack' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """Add ``%ms`` to a notebook: ``%load_ext matterstack``."""
    from matterstack.notebook.magics import register

    register(shell)
