"""Optimizers: what to try next, from what is known and what is under way; pure functions of that data.

``ms.optimizers`` is this package.
"""

from __future__ import annotations

from matterstack.optimizers.botorch import BoTorch
from matterstack.optimizers.observations import attach
from matterstack.optimizers.optimizer import Optimizer, suggest
from matterstack.optimizers.optuna import Optuna
from matterstack.optimizers.parameters import Choice, Integer, Parameter, Real, Simplex
from matterstack.optimizers.pareto import pareto
from matterstack.optimizers.review import review
from matterstack.optimizers.sampling import Grid, Random, Sobol
from matterstack.optimizers.space import Space

__all__ = [
    "BoTorch",
    "Choice",
    "Grid",
    "Integer",
    "Optimizer",
    "Optuna",
    "Parameter",
    "Random",
    "Real",
    "Simplex",
    "Sobol",
    "Space",
    "attach",
    "pareto",
    "review",
    "suggest",
]
