"""The simulated instrument: it answers with what was measured at the nearest blend, late, and sometimes not at all."""

import csv
import math
import random
import time
from pathlib import Path

import matterstack as ms

MATERIALS = ("PCE10", "P3HT", "PCBM", "oIDTBR")
DATA = Path(__file__).with_name("photo_pce10.csv")

#: How long a measurement takes in the mean, how that scatters (sigma of a lognormal), and how many of them fail.
MEAN_H, SIGMA, FAILING = 1.0, 0.8, 0.1


def measured(path):
    """Return the blends of a file, each with its degradation."""
    with open(path, newline="") as lines:
        rows = [[float(value) for value in row] for row in csv.reader(lines)]
    return [(tuple(blend), degradation) for *blend, degradation in rows]


def nearest(blend, blends):
    """Return the degradation of the measured blend that is nearest; nothing is interpolated."""
    return min(blends, key=lambda one: math.dist(blend, one[0]))[1]


def fate(seed, sample):
    """Return how many hours a measurement takes, and whether it fails: the same for all who ask."""
    draw = random.Random(f"{seed}-{sample}")
    return MEAN_H * draw.lognormvariate(-(SIGMA**2) / 2, SIGMA), draw.random() < FAILING


@ms.task(allow_failure=True, files={"photo_pce10.csv": DATA})
def measure(PCE10, P3HT, PCBM, oIDTBR, sample, seed, s_per_hour):
    """Make a blend and measure what light does to it, in a laboratory where hours are short."""
    hours, fails = fate(seed, sample)
    time.sleep(hours * s_per_hour)
    if fails:
        raise RuntimeError(f"sample {sample}: the film has a hole")
    return {"degradation": nearest((PCE10, P3HT, PCBM, oIDTBR), measured("photo_pce10.csv"))}
