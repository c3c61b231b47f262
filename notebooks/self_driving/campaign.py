"""The campaigns: one that streams, and one that waits for the slowest of each batch; with any optimizer."""

import matterstack as ms
from matterstack.optimizers import Simplex, Space
from self_driving.instrument import MATERIALS, measure

SPACE = Space({"blend": Simplex(MATERIALS)})


class Search(ms.Campaign):
    """Look for the blend that lasts longest in the light.

    Parameters
    ----------
    optimizer : ms.optimizers.Optimizer
        Of `SPACE`, with ``minimize="degradation"``.
    total : int
        So many blends are measured.
    stations : int
        So many at a time.
    seed : int
        Of the instrument.
    s_per_hour : float
        How long an hour of the laboratory is.
    """

    def __init__(self, optimizer, total=40, stations=4, seed=0, s_per_hour=1.0):
        self.optimizer, self.total, self.at_once = optimizer, total, stations
        self.seed, self.s_per_hour = seed, s_per_hour

    def initial_state(self):
        return {"seen": []}

    def suggest(self, seen, live):
        """Return what to measure now: the arguments of the instrument, a dict for each free station."""
        begun = len(seen) + len(live)
        free = min(self.at_once - len(live), self.total - begun)
        points = self.optimizer.suggest(max(free, 0), seen, live)
        return [{**point, "sample": begun + place, "seed": self.seed} for place, point in enumerate(points)]

    def workflow(self, seen, live=()):
        flow = ms.Workflow()
        for point in self.suggest(seen, live):
            flow.add(f"blend-{point['sample']}", measure, **point, s_per_hour=self.s_per_hour)
        return flow

    def seen(self, state, results):
        """Return all rows so far. A measurement that failed is one whose degradation is missing."""
        rows = [{**one.parameters, "degradation": one.data.get("degradation")} for one in results.values()]
        return state["seen"] + rows


class SelfDriving(Search):
    """Measures the next blend as soon as a station is free."""

    def update(self, state, results, live):
        seen = self.seen(state, results)
        return ms.Update({"seen": seen}, add=self.workflow(seen, list(live.values())))


class Waiting(Search):
    """Measures a batch, waits for the slowest of it, and plans the next one."""

    def plan(self, state):
        return self.workflow(state["seen"]) if len(state["seen"]) < self.total else None

    def analyze(self, state, results):
        return {"seen": self.seen(state, results)}
