"""The ways an attempt is carried out, one module each; a module is imported when its operator is first used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matterstack.core.operator import Operator

if TYPE_CHECKING:
    from matterstack.operators.dask import DaskOperator
    from matterstack.operators.experiment import ExperimentOperator
    from matterstack.operators.human import HumanOperator
    from matterstack.operators.local import LocalOperator
    from matterstack.operators.manual_hpc import ManualHPCOperator
    from matterstack.operators.slurm import SlurmOperator

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

#: The operators that `open_run` can rebuild: by the name config.json gives them, their class.
BUILT_IN: Mapping[str, str] = {
    "local": "LocalOperator",
    "human": "HumanOperator",
    "manual_hpc": "ManualHPCOperator",
    "experiment": "ExperimentOperator",
    "slurm": "SlurmOperator",
    "dask": "DaskOperator",
}


def __getattr__(name: str) -> Any:
    for module, kind in BUILT_IN.items():
        if kind == name:
            value = globals()[name] = getattr(importlib.import_module(f"matterstack.operators.{module}"), name)
            return value
    raise AttributeError(f"module 'matterstack.operators' has no attribute {name!r}")


def kind_of(operator: Operator) -> str | None:
    """Return the name config.json gives a built-in operator; None for one of somebody's own."""
    for kind, name in BUILT_IN.items():
        if (type(operator).__module__, type(operator).__qualname__) == (f"matterstack.operators.{kind}", name):
            return kind
    return None


def rebuild(kind: str, settings: Mapping[str, Any]) -> Operator:
    """Make a built-in operator from what config.json says of it.

    Raises
    ------
    KeyError, TypeError
        There is no such kind, or it has no such settings.
    """
    operator: Operator = __getattr__(BUILT_IN[kind])(**settings)
    return operator
