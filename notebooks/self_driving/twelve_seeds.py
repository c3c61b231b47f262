"""Four strategies over twelve seeds, on a clock that is only counted: ``python -m self_driving.twelve_seeds``.

It writes ``twelve_seeds.csv``, ``twelve_seeds.md`` and ``twelve_seeds.png`` beside this file. The campaigns are asked
for points as in a run; a measurement takes the hours that the instrument says, and a suggestion none.
"""

import argparse
import heapq
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from matterstack.optimizers import BoTorch, Optuna, Random
from self_driving.campaign import SPACE, SelfDriving, Waiting
from self_driving.instrument import DATA, MATERIALS, fate, measured, nearest

HOURS, SEEDS = 8.0, 12
STRATEGIES = {
    "BoTorch, streaming": (SelfDriving, BoTorch),
    "Optuna, streaming": (SelfDriving, Optuna),
    "BoTorch, waiting": (Waiting, BoTorch),
    "random, streaming": (SelfDriving, Random),
}
BLENDS = measured(DATA)
LOWEST = min(degradation for _, degradation in BLENDS)


def simulate(campaign, hours):
    """Return what a campaign has measured after so many hours: a row a measurement, in the order of their ends."""
    clock, under_way, seen = 0.0, [], []
    while clock <= hours:
        if not under_way or isinstance(campaign, SelfDriving):
            live = [point for _, _, point in sorted(under_way, key=lambda one: one[1])]
            for point in campaign.suggest(seen, live):
                ends = clock + fate(point["seed"], point["sample"])[0]
                heapq.heappush(under_way, (ends, point["sample"], point))
        if not under_way:
            break
        clock, sample, point = heapq.heappop(under_way)
        fails = fate(point["seed"], sample)[1]
        degradation = None if fails else nearest([point[name] for name in MATERIALS], BLENDS)
        seen.append({**point, "degradation": degradation, "ended_h": clock})
    return [row for row in seen if row["ended_h"] <= hours]


def measure_all(seeds, hours):
    """Return every measurement of every strategy and seed."""
    rows = []
    for seed in range(seeds):
        for name, (campaign, optimizer) in STRATEGIES.items():
            asked = campaign(optimizer(SPACE, minimize="degradation", seed=seed), total=10_000, seed=seed)
            rows += [{"strategy": name, **row} for row in simulate(asked, hours)]
            print(f"seed {seed}: {name}", flush=True)
    return pd.DataFrame(rows)


def best_by(found, hours):
    """Return the best so far at each of some hours, a row a strategy and seed."""
    curves = {}
    for key, rows in found.groupby(["strategy", "seed"], sort=False):
        known = rows.dropna(subset="degradation")
        best = known["degradation"].cummin().to_numpy()
        places = np.searchsorted(known["ended_h"], hours, side="right")
        curves[key] = np.concatenate([[np.nan], best])[places]
    return pd.DataFrame(curves, index=pd.Index(hours, name="hours")).T


def quartiles(values):
    low, middle, high = (values.quantile(share) for share in (0.25, 0.5, 0.75))
    return f"{middle:.4f} ({low:.4f} to {high:.4f})"


def table(found, hours):
    """Return a row a strategy: measurements, and the best at the end: medians and quartiles."""
    half, last = (best_by(found, [at])[at] for at in (hours / 2, hours))
    rows = {}
    for name, ends in last.groupby(level=0, sort=False):
        count = found[found["strategy"] == name].groupby("seed").size()
        rows[name] = {
            "measurements": f"{count.mean():.1f}",
            f"best after {hours / 2:g} hours": quartiles(half.loc[name]),
            f"after {hours:g} hours": quartiles(ends),
            "worst seed": f"{ends.max():.4f}",
            "found the best blend": f"{(ends <= LOWEST).sum()} of {len(ends)}",
        }
    return pd.DataFrame(rows).T.rename_axis("strategy")


def markdown(shown, hours, seeds):
    """Return the table as text."""
    rows = [[str(name), *row] for name, row in shown.iterrows()]
    lines = [["strategy", *shown.columns], ["---"] * (1 + shown.shape[1]), *rows]
    head = (
        f"Four stations, {hours:g} hours, {seeds} seeds. Means of the measurements; of the lowest degradation the "
        f"median and the quartiles.\nThe best of the 1,040 blends has {LOWEST:.4f}, the median one "
        f"{np.median([d for _, d in BLENDS]):.4f}.\n\n"
    )
    return head + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw(found, hours):
    """Draw the best so far: the median of the seeds, and a band from quartile to quartile."""
    figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    curves = best_by(found, np.linspace(0, hours, 321))
    for name in STRATEGIES:
        mine = curves.loc[name].dropna(axis="columns")  # from when each seed knows something
        low, middle, high = (mine.quantile(q) for q in (0.25, 0.5, 0.75))
        (line,) = axes.plot(mine.columns, middle, label=name, drawstyle="steps-post")
        axes.fill_between(mine.columns, low, high, step="post", alpha=0.15, color=line.get_color(), linewidth=0)
    axes.axhline(LOWEST, color="0.4", linestyle=":", label="best of 1,040 blends")
    axes.set(xlabel="hours in the laboratory", ylabel="lowest degradation so far", xlim=(0, hours), yscale="log")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def main():
    """Measure, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--hours", type=float, default=HOURS)
    parser.add_argument("--to", type=Path, default=Path(__file__).parent)
    given = parser.parse_args()
    found = measure_all(given.seeds, given.hours).round({**dict.fromkeys(MATERIALS, 6), "ended_h": 6})
    found.to_csv(given.to / "twelve_seeds.csv", index=False)
    text = markdown(table(found, given.hours), given.hours, given.seeds)
    (given.to / "twelve_seeds.md").write_text(text)
    draw(found, given.hours).savefig(given.to / "twelve_seeds.png", dpi=110)
    print(text)


if __name__ == "__main__":
    main()
