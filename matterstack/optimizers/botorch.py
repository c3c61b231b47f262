"""BoTorch's Bayesian optimization: a Gaussian process of each target, and what is under way as pending points."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matterstack.errors import MissingLibraryError
from matterstack.optimizers.observations import Seen
from matterstack.optimizers.optimizer import Model, uniform, visited_of
from matterstack.optimizers.space import Point

#: Points that the model is asked about: so many of the whole space; then around the best of them, ever nearer.
_CANDIDATES, _NEARBY, _WIDTHS = 384, 96, (0.1, 0.03, 0.01, 0.003)
#: Samples of the model's posterior; and how many points it is asked about at once.
_SAMPLES, _AT_ONCE = 128, 128
#: Of a fit; what comes after them changes the suggestions no more.
_MOST_STEPS = 200


@dataclass(frozen=True)
class BoTorch(Model):
    """Bayesian optimization: few points, each dear; qLogNEI of one target, qLogNEHVI of several.

    Its candidates are points of the space, drawn and then refined around the best, so that numbers, choices, simplexes
    and constraints are dealt with alike. Of a point that failed the model learns nothing; it is not tried again.

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
        When it suggests, without botorch.
    """

    def learn(self, n: int, seen: Sequence[Seen], pending: Sequence[Point], seed: int) -> list[Point]:
        """Return n points, each as if those before were under way."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch as it is imported, of fits that were tried twice
            try:
                import botorch  # noqa: F401
                import torch
            except ImportError as error:
                raise MissingLibraryError("BoTorch needs botorch: pip install 'matterstack[botorch]'") from error
            threads = torch.get_num_threads()
            with torch.random.fork_rng(devices=[]):
                try:
                    torch.set_num_threads(1)  # sums do not depend on the machine, and small ones are faster so
                    torch.manual_seed(seed)
                    return self._found(n, seen, pending, seed)
                finally:
                    torch.set_num_threads(threads)

    def _found(self, n: int, seen: Sequence[Seen], pending: Sequence[Point], seed: int) -> list[Point]:
        model, known, gains = self._model(seen)
        found: list[Point] = []
        for place in range(n):
            waiting = self._tensor([*pending, *found]) if pending or found else None
            wanted = _acquisition(model, known, gains, waiting, seed)
            best = self._best(wanted, seen, [*pending, *found], seed + place)
            if best is None:
                break
            found.append(best)
        return found

    def _tensor(self, points: Sequence[Point]) -> Any:
        import torch

        return torch.tensor([self.space.features(point) for point in points], dtype=torch.double)

    def _model(self, seen: Sequence[Seen]) -> tuple[Any, Any, Any]:
        """Return the fitted model, the points that it knows, and their targets as gains."""
        import torch
        from botorch.exceptions import ModelFittingError
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import ModelListGP, SingleTaskGP
        from botorch.models.transforms import Standardize
        from gpytorch.mlls import ExactMarginalLogLikelihood

        good = [(one.point, one.values) for one in seen if one.values is not None]
        signs = torch.tensor([1.0] * len(self.maximize) + [-1.0] * len(self.minimize), dtype=torch.double)
        known = self._tensor([point for point, _ in good])
        gains = torch.tensor([values for _, values in good], dtype=torch.double) * signs
        models = []
        for column in gains.split(1, dim=-1):
            model = SingleTaskGP(known, column, outcome_transform=Standardize(1))
            try:
                likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
                fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": {"maxiter": _MOST_STEPS}})
            except ModelFittingError:
                model.eval()  # with the lengths and noise of its priors
            models.append(model)
        model = models[0] if len(models) == 1 else ModelListGP(*models)
        return model, known, gains

    def _best(self, wanted: Any, seen: Sequence[Seen], pending: Sequence[Point], seed: int) -> Point | None:
        """Return the point of the highest acquisition among the candidates; None where the space has no new point."""
        visited = visited_of(seen, pending)
        draws = uniform(self.space, seed)
        found = self.space.find(_CANDIDATES, draws, visited) or self.space.take(1, draws, visited)
        if not found:
            return None
        scores = self._scores(wanted, found)
        for step, width in enumerate(_WIDTHS):
            ranked = sorted(range(len(found)), key=lambda place: -scores[place])[:4]
            near = _nearby(self, [found[place] for place in ranked], width, seed + step)
            more = list(itertools.islice(self.space.new_points(near, [*visited, *found]), _NEARBY))
            if more:
                found += more
                scores += self._scores(wanted, more)
        return found[max(range(len(found)), key=lambda place: scores[place])]

    def _scores(self, wanted: Any, points: Sequence[Point]) -> list[float]:
        import torch

        scores: list[float] = []
        with torch.no_grad():
            for chunk in self._tensor(points).split(_AT_ONCE):
                scores += wanted(chunk.unsqueeze(1)).tolist()
        return scores


def _nearby(optimizer: BoTorch, centers: Sequence[Point], width: float, seed: int) -> Iterator[Point]:
    """Draw points near others: each a coordinate or more away; in the end there are no more."""
    import numpy

    random = numpy.random.default_rng(seed)
    units = numpy.array([optimizer.space.to_unit(center) for center in centers])
    for number in range(4 * _NEARBY):
        center = units[number % len(units)]
        moved = random.random(len(center)) < max(0.5, 1.0 / len(center))
        moved[random.integers(len(center))] = True
        step = numpy.where(moved, random.normal(scale=width, size=len(center)), 0.0)
        yield optimizer.space.from_unit(numpy.clip(center + step, 0.0, 1.0).tolist())


def _acquisition(model: Any, known: Any, gains: Any, waiting: Any, seed: int) -> Any:
    """Return what says how much a point is worth, beside those that are under way."""
    import torch
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.sampling import SobolQMCNormalSampler
    from botorch.utils.multi_objective.hypervolume import infer_reference_point
    from botorch.utils.multi_objective.pareto import is_non_dominated

    sampler = SobolQMCNormalSampler(torch.Size([_SAMPLES]), seed=seed)
    if gains.shape[-1] == 1:
        return qLogNoisyExpectedImprovement(model, known, sampler, X_pending=waiting, prune_baseline=True)
    best = gains[is_non_dominated(gains)]
    return qLogNoisyExpectedHypervolumeImprovement(
        model, infer_reference_point(best), known, sampler, X_pending=waiting, prune_baseline=True
    )
