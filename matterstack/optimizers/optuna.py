"""Optuna's tree-structured Parzen estimator, which takes what is under way for bad."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matterstack.errors import MissingLibraryError
from matterstack.optimizers.observations import Seen
from matterstack.optimizers.optimizer import Model, uniform, visited_of
from matterstack.optimizers.parameters import Choice, Integer, Real
from matterstack.optimizers.space import Point, Space

#: Optuna is asked so often for a point that is new and allowed; then the points are drawn at random.
_MOST_ASKED = 100


@dataclass(frozen=True)
class Optuna(Model):
    """The tree-structured Parzen estimator of Optuna: fast, for any kinds of parameters, many points and many targets.

    Parameters
    ----------
    space : Space
        The points there are to choose from.
    maximize, minimize : str or sequence of str
        The targets.
    seed : int
        Another one gives other points from the same data.
    startup : int
        So many points, known or under way, are those of `Sobol`.

    Raises
    ------
    MissingLibraryError
        When it suggests, without optuna.
    """

    def learn(self, n: int, seen: Sequence[Seen], pending: Sequence[Point], seed: int) -> list[Point]:
        """Return n points."""
        try:
            import optuna
        except ImportError as error:
            raise MissingLibraryError("Optuna needs optuna: pip install 'matterstack[optuna]'") from error
        level = optuna.logging.get_verbosity()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            try:
                sampler = optuna.samplers.TPESampler(
                    seed=seed, n_startup_trials=0, multivariate=True, constant_liar=True
                )
                directions = ["maximize"] * len(self.maximize) + ["minimize"] * len(self.minimize)
                study = optuna.create_study(directions=directions, sampler=sampler)
                study.add_trials(_trials(self.space, seen, pending))
                draws = self._draws(study, seed)
                return self.space.take(n, draws, visited_of(seen, pending))
            finally:
                optuna.logging.set_verbosity(level)

    def _draws(self, study: Any, seed: int) -> Iterator[Point]:
        distributions = distributions_of(self.space)
        for _ in range(_MOST_ASKED):
            # What was asked for counts as under way, whether it is taken or not: the next one is elsewhere.
            yield to_point(self.space, study.ask(distributions).params)
        yield from uniform(self.space, seed)


def _trials(space: Space, seen: Sequence[Seen], pending: Sequence[Point]) -> list[Any]:
    from optuna.trial import TrialState, create_trial

    distributions = distributions_of(space)
    done = [(one.point, one.values, TrialState.FAIL if one.values is None else TrialState.COMPLETE) for one in seen]
    tried = [*done, *((point, None, TrialState.RUNNING) for point in pending)]
    return [
        create_trial(
            params=from_point(space, point),
            distributions=distributions,
            values=None if values is None else list(values),
            state=state,
        )
        for point, values, state in tried
    ]


def distributions_of(space: Space) -> dict[str, Any]:
    """Return the space as Optuna has it: a simplex by its coordinates in the unit cube."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        match parameter:
            case Real():
                found[name] = FloatDistribution(parameter.low, parameter.high, log=parameter.log)
            case Integer():
                found[name] = IntDistribution(parameter.low, parameter.high, log=parameter.log)
            case Choice():
                found[name] = CategoricalDistribution(parameter.values)
            case _:
                for place in range(parameter.width):
                    found[f"{name}[{place}]"] = FloatDistribution(0.0, 1.0)
    return found


def from_point(space: Space, point: Point) -> dict[str, Any]:
    """Return a point as Optuna has it."""
    found: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        values = [point[key] for key in parameter.names(name)]
        if isinstance(parameter, Real | Integer | Choice):
            found[name] = values[0]
        else:
            found.update({f"{name}[{place}]": unit for place, unit in enumerate(parameter.to_unit(values))})
    return found


def to_point(space: Space, params: dict[str, Any]) -> Point:
    """Return the point that Optuna has found."""
    point: Point = {}
    for name, parameter in space.parameters.items():
        keys = parameter.names(name)
        if isinstance(parameter, Real | Integer | Choice):
            point[keys[0]] = params[name]
        else:
            units = [params[f"{name}[{place}]"] for place in range(parameter.width)]
            point.update(zip(keys, parameter.from_unit(units), strict=True))
    return point
