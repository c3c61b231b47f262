"""The instrument, and that a run and the counted clock measure the same."""

import sys
from pathlib import Path

import pytest

import matterstack as ms
from matterstack.optimizers import Optuna, Random
from self_driving.campaign import SPACE, SelfDriving, Waiting
from self_driving.instrument import DATA, MATERIALS, fate, measured, nearest
from self_driving.twelve_seeds import markdown, simulate, table

BLENDS = measured(DATA)


def optuna(seed=0):
    return Optuna(SPACE, minimize="degradation", seed=seed)


def test_the_data_are_1040_blends_and_a_blend_that_was_measured_gives_what_it_gave():
    assert len(BLENDS) == 1040
    assert nearest((1.0, 0.0, 0.0, 0.0), BLENDS) == 0.189174654
    assert nearest((0.999, 0.001, 0.0, 0.0), BLENDS) == 0.189174654


def test_the_instrument_answers_late_and_sometimes_fails():
    fates = [fate(seed, sample) for seed in range(20) for sample in range(100)]
    assert 0.9 < sum(hours for hours, _ in fates) / len(fates) < 1.1
    assert 0.07 < sum(fails for _, fails in fates) / len(fates) < 0.13
    assert fate(3, 7) == fate(3, 7)


@pytest.mark.parametrize("kind", [SelfDriving, Waiting])
def test_a_run_measures_what_the_counted_clock_says(kind, tmp_path):
    pytest.importorskip("optuna")
    # One station: which measurement ends first is no matter of the machine then.
    campaign = kind(optuna(), total=12, stations=1, seed=4, s_per_hour=0.0)
    run = ms.initialize_run("w", campaign, base_path=tmp_path, operators={"local": ms.LocalOperator()})
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    keys = (*MATERIALS, "sample", "degradation")
    expected = [[row[key] for key in keys] for row in simulate(campaign, 1e9)]
    assert [[row[key] for key in keys] for row in run.campaign_state["seen"]] == expected
    assert None in [row[-1] for row in expected], "one that failed is in it"
    assert run.store.check() == []


def test_streaming_measures_more_in_the_same_time():
    counts = {
        kind: sum(
            len(simulate(kind(Random(SPACE, minimize="degradation"), 1000, seed=seed), 8.0)) for seed in range(12)
        )
        for kind in (SelfDriving, Waiting)
    }
    assert counts[SelfDriving] > 1.4 * counts[Waiting]


def test_the_table_is_that_of_the_kept_measurements():
    import pandas as pd

    here = Path(sys.modules["self_driving"].__file__).parent
    found = pd.read_csv(here / "twelve_seeds.csv")
    assert (here / "twelve_seeds.md").read_text() == markdown(table(found, 8.0), 8.0, 12)
