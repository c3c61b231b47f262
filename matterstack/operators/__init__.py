"""The ways an attempt is carried out, in three families; a module is imported when its operator is first used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matterstack.operators.base import Operator

if TYPE_CHECKING:
    from matterstack.operators.jobs.dask import DaskOperator
    from matterstack.operators.jobs.slurm import SlurmOperator
    from matterstack.operators.local.operator import LocalOperator
    from matterstack.operators.requests.experiment import ExperimentOperator
    from matterstack.operators.requests.human import HumanOperator
    from matterstack.operators.requests.manual_hpc import ManualHPCOperator

__all__ = [
    "BUILT_IN",
    "DaskOperator",
    "ExperimentOperator",
    "HumanOperator",
    "LocalOperator",
    "ManualHPCOperator",
    "Operator",
    "SlurmOperator",
]

#: The operators that `open_run` can rebuild: by the name config.json gives them, their module and class.
BUILT_IN: Mapping[str, tuple[str, str]] = {
    "local": ("matterstack.operators.local.operator", "LocalOperator"),
    "human": ("matterstack.operators.requests.human", "HumanOperator"),
    "manual_hpc": ("matterstack.operators.requests.manual_hpc", "ManualHPCOperator"),
    "experiment": ("matterstack.operators.requests.experiment", "ExperimentOperator"),
    "slurm": ("matterstack.operators.jobs.slurm", "SlurmOperator"),
    "dask": ("matterstack.operators.jobs.dask", "DaskOperator"),
}


def __getattr__(name: str) -> Any:
    for module, kind in BUILT_IN.values():
        if kind == name:
            value = globals()[name] = getattr(importlib.import_module(module), name)
            return value
    raise AttributeError(f"module 'matterstack.operators' has no attribute {name!r}")


def kind_of(operator: Operator) -> str | None:
    """Return the name config.json gives a built-in operator; None for one of somebody's own."""
    given = (type(operator).__module__, type(operator).__qualname__)
    return next((kind for kind, known in BUILT_IN.items() if known == given), None)


def describe(operator: Operator) -> dict[str, Any] | None:
    """Return what config.json says of an operator: its kind and settings, as `rebuild` takes them.

    None for one of somebody's own; the settings are None where they hold what no file can.
    """
    kind = kind_of(operator)
    settings = operator.settings()
    return None if kind is None else {"kind": kind, "settings": None if settings is None else dict(settings)}


def rebuild(kind: str, settings: Mapping[str, Any]) -> Operator:
    """Make a built-in operator from what config.json says of it.

    Raises
    ------
    KeyError, TypeError
        There is no such kind, or it has no such settings.
    """
    operator: Operator = __getattr__(BUILT_IN[kind][1])(**settings)
    return operator
