"""A space: what is in it, how points lie in the unit cube, and what is refused."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import matterstack as ms
from matterstack.errors import OptimizerError
from matterstack.optimizers import Choice, Integer, Parameter, Real, Simplex, Space

finite = st.floats(-1e9, 1e9)


@st.composite
def reals(draw: st.DrawFn) -> Real:
    log = draw(st.booleans())
    low, high = sorted(draw(st.tuples(*[st.floats(1e-9, 1e9) if log else finite] * 2)))
    assume(high - low > 1e-6 * max(abs(low), abs(high)))
    return Real(low, high, log)


@st.composite
def integers(draw: st.DrawFn) -> Integer:
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -1000, 1000))
    return Integer(low, low + draw(st.integers(1, 10_000)), log)


scalars = st.one_of(st.booleans(), st.integers(-9, 9), st.text("abc\u00e9 ", max_size=3))
choices = st.lists(scalars, min_size=2, max_size=6, unique=True).map(Choice)
totals = st.floats(1e-3, 1e3)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    kinds = draw(st.lists(st.sampled_from(["real", "integer", "choice", "simplex"]), min_size=1, max_size=5))
    parameters: dict[str, Parameter] = {}
    for place, kind in enumerate(kinds):
        parts = [f"part{place}.{part}" for part in range(draw(st.integers(2, 4)))]
        of = {"real": reals(), "integer": integers(), "choice": choices}
        parameters[f"p{place}"] = draw(of[kind]) if kind in of else Simplex(parts, draw(totals))
    return Space(parameters)


@settings(max_examples=200, deadline=None)
@given(spaces(), st.data())
def test_every_point_of_the_cube_is_a_point_of_the_space_and_comes_again(space: Space, data: st.DataObject) -> None:
    units = data.draw(st.lists(st.floats(0, 1), min_size=space.width, max_size=space.width))
    point = space.from_unit(units)
    assert tuple(point) == space.names
    assert space.check(point) == point
    assert {type(value) for value in point.values()} <= {int, float, str, bool}
    back = space.to_unit(point)
    assert all(0 <= unit <= 1 for unit in (*back, *space.features(point)))
    again = space.from_unit(back)
    for name, value in point.items():
        assert again[name] == (pytest.approx(value, rel=1e-6, abs=1e-6) if isinstance(value, float) else value)


@settings(deadline=None)
@given(st.integers(2, 5), totals, st.integers(2, 5))
def test_parts_are_the_total_everywhere_and_on_the_grid(parts: int, total: float, steps: int) -> None:
    simplex = Simplex([str(part) for part in range(parts)], total)
    random = np.random.default_rng(parts)
    drawn = [simplex.from_unit(units) for units in random.random((50, simplex.width))]
    levels = list(simplex.levels(steps))
    assert len(set(levels)) == len(levels) == math.comb(steps - 1 + parts - 1, parts - 1)
    for values in (*drawn, *levels):
        assert min(values) >= 0
        assert math.fsum(values) == pytest.approx(total, rel=1e-9)


def test_compositions_are_equally_likely_whatever_their_order() -> None:
    simplex = Simplex(["a", "b", "c"])
    means = np.mean([simplex.from_unit(units) for units in np.random.default_rng(0).random((4000, 2))], axis=0)
    assert means == pytest.approx([1 / 3] * 3, abs=0.02)


def test_a_log_range_has_as_much_of_each_order_of_magnitude() -> None:
    drawn = [Integer(1, 1000, log=True).from_unit([unit])[0] for unit in np.linspace(0, 1, 1001)]
    shares = [sum(low <= value < 10 * low for value in drawn) / 1001 for low in (1, 10, 100)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.07), "1 has a piece of the range from 0.5 on"
    assert [round(value) for (value,) in Real(1, 1000, log=True).levels(4)] == [1, 10, 100, 1000]


WIDE = Space(
    {"x": Real(0, 1), "k": Integer(1, 9), "gas": Choice(["air", "N2"]), "mix": Simplex(["Cu", "Au"])},
    constraint=lambda point: point["x"] + point["Cu"] < 1,
)
GOOD = {"x": 0.1, "k": 2, "gas": "air", "Cu": 0.5, "Au": 0.5}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": 1.1}, "'x': must be a number from 0.0 to 1.0, not 1.1"),
        ({"x": "0.1"}, "'x': must be a number"),
        ({"x": True}, "'x': must be a number"),
        ({"x": math.nan}, "'x': must be a number"),
        ({"k": 2.5}, "'k': must be a whole number from 1 to 9, not 2.5"),
        ({"gas": "n2"}, "'gas': must be 'air' or 'N2', not 'n2'"),
        ({"Cu": 0.4}, "'mix': 'Cu' \\+ 'Au' must be 1.0, not 0.9"),
        ({"Cu": -0.5, "Au": 1.5}, "'Cu' must be a number from 0 to 1.0, not -0.5"),
        ({"x": 0.6}, "the constraint of the space does not allow"),
        ({"ges": "air"}, "no parameter 'ges'.*gas"),
        ({"k": None}, "'k': must be a number"),
    ],
)
def test_a_point_outside_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(OptimizerError, match=said):
        WIDE.check(GOOD | change)


def test_a_point_becomes_plain_whatever_table_it_comes_from() -> None:
    row = pd.DataFrame([GOOD | {"k": 2.0}]).iloc[0].to_dict()
    found = WIDE.check({**row, "x": np.float64(0.1), "gas": np.str_("air")})
    assert found == GOOD
    assert [type(value) for value in found.values()] == [float, int, str, float, float]
    del row["gas"]
    with pytest.raises(OptimizerError, match="the point has no 'gas'"):
        WIDE.check(row)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Real(1, 1), "low must be less than high"),
        (lambda: Real(0, 1, log=True), "must begin above 0"),
        (lambda: Real(0, math.inf), "must be finite"),
        (lambda: Real(0, 1, log=1), "log must be True or False"),
        (lambda: Integer(0.5, 3), "whole numbers"),
        (lambda: Choice("ab"), "two values or more, in a list"),
        (lambda: Choice([1, 1.0]), "two of the values are equal"),
        (lambda: Choice([None, 1]), "must be a text, a number"),
        (lambda: Simplex(["a"]), "two parts or more"),
        (lambda: Simplex(["a", "b"], total=0), "above 0"),
        (lambda: Space({}), "a parameter or more"),
        (lambda: Space({"x": (0, 1)}), "'x' must be a Real, Integer, Choice or Simplex"),
        (lambda: Space({"x": Real(0, 1), "m": Simplex(["x", "y"])}), "two parameters are called 'x'"),
        (lambda: Space({"m": Simplex(["y", "y"])}), "two parameters are called|two parts"),
        (lambda: Space({"x": Real(0, 1)}, constraint=3), "constraint must be a function"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(make: Any, said: str) -> None:
    with pytest.raises(OptimizerError, match=said):
        make()


def test_grid_has_each_level_once() -> None:
    points = list(WIDE.grid({"x": 3, "k": 4, "gas": 2, "mix": 3}))
    assert len(points) == 3 * 4 * 2 * 3
    assert len({tuple(point.values()) for point in points}) == len(points)
    assert {point["k"] for point in points} == {1, 4, 6, 9}
    assert all(a["x"] <= b["x"] for a, b in itertools.pairwise(points))


def test_importing_the_package_imports_no_optimizer() -> None:
    import subprocess
    import sys

    program = "import sys, matterstack; a = set(sys.modules); matterstack.optimizers.BoTorch; "
    program += "print([m for m in a if 'optimizers' in m], {'numpy', 'scipy', 'torch', 'optuna'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] set()"
    assert ms.optimizers.Space is Space
