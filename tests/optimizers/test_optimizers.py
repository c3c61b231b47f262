"""Optimizers: pure functions of what is known and what is under way."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from no_skips import NOT_REQUIRED

from matterstack.errors import MissingLibraryError, OptimizerError
from matterstack.optimizers import BoTorch, Choice, Grid, Integer, Optuna, Random, Real, Simplex, Sobol, Space, pareto

Row = dict[str, Any]


def needs(name: str, kind: type) -> Any:
    """Return an optimizer as a parameter of a test that is skipped where its library is not."""
    lacks = importlib.util.find_spec(name) is None
    return pytest.param(kind, marks=pytest.mark.skipif(lacks, reason=f"{NOT_REQUIRED}{name} is not installed"))


MODELS = [needs("optuna", Optuna), needs("botorch", BoTorch)]
DRAWING = [Random, Sobol, *MODELS]
ALL = [*DRAWING, Grid]


def allowed(point: Row) -> bool:
    return bool(point["x"] < 0.9 or point["gas"] == "air")


WIDE = Space(
    {
        "x": Real(0, 1),
        "rate": Real(1e-3, 10, log=True),
        "k": Integer(1, 50, log=True),
        "gas": Choice(["air", "N2", "Ar"]),
        "mix": Simplex(["Cu", "Au", "Ni"]),
    },
    constraint=allowed,
)
FLAT = Space({"x": Real(0, 1), "y": Real(0, 1)})
FEW = Space({"k": Integer(0, 3), "gas": Choice(["air", "N2"])})


def strength(point: Row) -> float:
    return float(-((point["x"] - 0.3) ** 2) - (point["y"] - 0.7) ** 2)


def tried(space: Space, n: int) -> list[Row]:
    """Return rows of what was tried: every fifth failed, and there are columns that nobody asked for."""
    points = Random(space, seed=5).suggest(n)
    return [
        {**point, "gap_eV": None if place % 5 == 4 else point["x"] * point["Cu"], "cost": place, "note": "a"}
        for place, point in enumerate(points)
    ]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("targets", [{"maximize": "gap_eV"}, {"maximize": ["gap_eV"], "minimize": "cost"}])
def test_suggestions_are_new_points_of_the_space_and_plain(kind: Any, targets: Row) -> None:
    optimizer = kind(WIDE, **targets)
    observed, pending = tried(WIDE, 20), Random(WIDE, seed=6).suggest(4)
    found = optimizer.suggest(5, observed, pending)
    assert len(found) == 5
    for point in found:
        assert WIDE.check(point) == point
        assert {type(value) for value in point.values()} <= {int, float, str}
    keys = [WIDE.key(WIDE.pick(row, "row")) for row in (*observed, *pending, *found)]
    assert len(set(keys)) == len(keys)
    assert optimizer.suggest(0, observed, pending) == []
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("kind", ALL)
def test_the_same_data_gives_the_same_points_from_any_table(kind: Any) -> None:
    optimizer = kind(WIDE, maximize="gap_eV")
    observed, pending = tried(WIDE, 20), Random(WIDE, seed=6).suggest(2)
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), str(np.random.get_state())
    torch = sys.modules.get("torch")
    of_torch = torch.get_rng_state().clone() if torch else None
    found = optimizer.suggest(2, observed, pending)
    assert optimizer.suggest(2, json.loads(json.dumps(observed)), pending) == found
    assert optimizer.suggest(2, pd.DataFrame(observed), pd.DataFrame(pending)) == found
    assert (random.getstate(), str(np.random.get_state())) == before
    if torch and of_torch is not None:
        assert torch.equal(torch.get_rng_state(), of_torch)


@pytest.mark.parametrize("kind", DRAWING)
def test_another_seed_gives_other_points_and_other_data_too(kind: Any) -> None:
    observed = tried(WIDE, 20)
    found = kind(WIDE, maximize="gap_eV").suggest(2, observed)
    assert kind(WIDE, maximize="gap_eV", seed=1).suggest(2, observed) != found
    assert kind(WIDE, maximize="gap_eV").suggest(2, observed, found) != found


@pytest.mark.parametrize("kind", MODELS)
def test_another_process_gives_the_same_points(kind: Any, tmp_path: Path) -> None:
    observed = [{**point, "v": strength(point)} for point in Sobol(FLAT).suggest(12)]
    found = kind(FLAT, maximize="v").suggest(3, observed, observed[:2])
    program = f"""if True:
        import json, sys
        from matterstack.optimizers import *
        optimizer = {kind.__name__}(Space({{"x": Real(0, 1), "y": Real(0, 1)}}), maximize="v")
        observed = json.load(sys.stdin)
        print(json.dumps(optimizer.suggest(3, observed, observed[:2])))"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        input=json.dumps(observed),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "77"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == found


@pytest.mark.parametrize("kind", ALL)
def test_a_space_of_few_points_is_gone_through_to_its_end(kind: Any) -> None:
    optimizer = kind(FEW, maximize="v", startup=3) if kind in (Optuna, BoTorch) else kind(FEW, maximize="v")
    observed: list[Row] = []
    for _ in range(4):
        new = optimizer.suggest(2, observed, [])
        observed += [{**point, "v": point["k"]} for point in new]
    assert len({FEW.key(row) for row in observed}) == FEW.size == 8
    assert optimizer.suggest(2, observed) == []
    assert optimizer.suggest(9, [], observed[:5]) != []


def test_grid_goes_on_where_it_is_and_says_by_fewer_that_it_ends() -> None:
    grid = Grid(FLAT, steps={"x": 3, "y": 2})
    first = grid.suggest(4)
    assert [(point["x"], point["y"]) for point in first] == [(0.0, 0.0), (0.0, 1.0), (0.5, 0.0), (0.5, 1.0)]
    assert [point["x"] for point in grid.suggest(4, pending=first)] == [1.0, 1.0]
    for steps in (0, {"x": 3}, {"x": 2, "z": 2}, True):
        with pytest.raises(OptimizerError, match="steps"):
            Grid(FLAT, steps=steps)  # type: ignore[arg-type]


def test_sobol_is_one_sequence_however_it_is_asked() -> None:
    at_once = Sobol(FLAT).suggest(10)
    one_by_one: list[Row] = []
    for _ in range(10):
        one_by_one += Sobol(FLAT).suggest(1, pending=one_by_one)
    assert at_once == one_by_one
    quarters = {(point["x"] < 0.5, point["y"] < 0.5) for point in at_once[:4]}
    assert len(quarters) == 4


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_with_points_under_way_is_nearer_than_chance(kind: Any) -> None:
    def best_of(kind: Any, seed: int) -> float:
        optimizer, seen, pending = kind(FLAT, maximize="v", seed=seed), [], []
        for _ in range(30):
            (point,) = optimizer.suggest(1, seen, pending)
            assert point not in pending
            pending.append(point)
            if len(pending) == 4:
                point = pending.pop(0)
                seen.append({**point, "v": strength(point)})
        return float(max(row["v"] for row in seen))

    ours, chance = ([best_of(one, seed) for seed in range(4)] for one in (kind, Random))
    assert np.mean(ours) > np.mean(chance) / 2.5, "values are below 0, the best is 0"


@pytest.mark.parametrize("kind", MODELS)
def test_what_shall_be_small_is_made_small(kind: Any) -> None:
    seen = [{**point, "v": -strength(point)} for point in Sobol(FLAT).suggest(20)]
    found = kind(FLAT, minimize="v").suggest(4, seen)
    assert np.mean([strength(point) for point in found]) > 2 * np.mean([-row["v"] for row in seen]) / 3


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_lives_with_failures_alone_and_with_values_that_are_alike(kind: Any) -> None:
    points = Sobol(FLAT).suggest(12)
    failed = [{**point, "v": float("nan")} for point in points]
    assert len(kind(FLAT, maximize="v").suggest(2, failed)) == 2
    alike = [{**point, "v": 1.0} for point in points]
    assert len(kind(FLAT, maximize="v").suggest(2, alike)) == 2


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("observed", "said"),
    [
        ([{"x": 0.1, "y": 0.1, "v": 1.0}, {"x": 2.0, "y": 0.1, "v": 1.0}], "row 1 of observed: 'x': must be"),
        ([{"x": 0.1, "v": 1.0}], "row 0 of observed has no 'y'"),
        ([{"x": 0.1, "y": 0.1, "V": 1.0}], "row 0 of observed has no 'v'"),
        ([{"x": 0.1, "y": 0.1, "v": "high"}], "row 0 of observed: 'v' must be a number, or None"),
        ({"x": [0.1], "y": [0.1]}, "observed must be a DataFrame or a list of dicts"),
        ([(0.1, 0.2)], "observed: row 0 must be a dict"),
    ],
)
def test_a_row_that_makes_no_sense_is_named(kind: Any, observed: Any, said: str) -> None:
    with pytest.raises(OptimizerError, match=said):
        kind(FLAT, maximize="v").suggest(1, observed)


def test_what_an_optimizer_cannot_be() -> None:
    for make, said in [
        (lambda: Optuna(FLAT), "name what shall be maximized or minimized"),
        (lambda: Random({"x": (0, 1)}), "space must be a Space"),  # type: ignore[arg-type]
        (lambda: Random(FLAT, maximize="x"), "'x' is a parameter"),
        (lambda: Random(FLAT, maximize="v", minimize="v"), "given twice"),
        (lambda: Random(FLAT, maximize=3), "maximize must be the name"),  # type: ignore[arg-type]
        (lambda: Random(FLAT, seed=1.5), "seed must be a whole number"),  # type: ignore[arg-type]
        (lambda: Random(FLAT).suggest(-1), "n must be a whole number, 0 or more, not -1"),
    ]:
        with pytest.raises(OptimizerError, match=said):
            make()


def test_a_constraint_that_allows_nothing_says_so() -> None:
    nothing = Space({"x": Real(0, 1)}, constraint=lambda point: False)
    with pytest.raises(OptimizerError, match="0 are new and allowed"):
        Random(nothing).suggest(1)
    assert Grid(nothing).suggest(1) == []


@pytest.mark.parametrize(("kind", "module"), [(Optuna, "optuna"), (BoTorch, "botorch"), (Sobol, "scipy.stats.qmc")])
def test_a_library_that_is_missing_is_named_with_the_way_out(
    kind: Any, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = [{**point, "v": strength(point)} for point in Random(FLAT).suggest(12)]
    for name in (module, "torch") if module == "botorch" else (module,):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingLibraryError, match=r"pip install ('matterstack\[(optuna|botorch)\]'|scipy)"):
        kind(FLAT, maximize="v").suggest(1, seen)


def test_the_pareto_table_keeps_whole_rows_that_nothing_beats() -> None:
    rows = [{"id": place, "a": a, "b": b} for place, (a, b) in enumerate([(1, 1), (2, 3), (3, 2), (2, 2), (3, 2)])]
    rows.append({"id": 5, "a": None, "b": 0})
    table = pd.DataFrame(rows).set_index("id")
    assert list(pareto(table, maximize=["a", "b"]).index) == [1, 2, 4]
    assert list(pareto(rows, maximize="a", minimize="b")["id"]) == [0, 2, 4]
    assert list(pareto(rows, minimize="a")["id"]) == [0]
    assert pareto([], maximize="a").empty
    with pytest.raises(OptimizerError, match="name what"):
        pareto(rows)
