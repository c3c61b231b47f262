"""JSON as people and programs write it: what is wrong is named, with the place and the remedy."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any

import pytest

from matterstack.core.schemas import violations
from matterstack.core.strict_json import dump_json, parse_json
from matterstack.errors import InvalidJsonError


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('{"gap_eV": 1.1,}', "the comma before it is one too many"),
        ('{"x": [1, 2, ]}', "the comma before it is one too many"),
        ('{"gap_eV": 1,1}', "a decimal comma? Write a point"),
        ("{\u201cgap_eV\u201d: 1.1}", "curly quotes"),
        ('{"gap_eV": \u201e1.1\u201c}', "curly quotes"),
        ("{'gap_eV': 1.1}", "straight double quotes"),
        ('{"gap_eV": 1.1, // Tauc\n "note": ""}', "JSON has no comments"),
        ('{"gap_eV": 1.1} # Tauc', "JSON has no comments"),
        ('{"gap_eV": /* Tauc */ 1.1}', "JSON has no comments"),
        ('{"gap_eV": .5}', "as in 0.5"),
        ('{"gap_eV": -.5}', "as in 0.5"),
        ('{"gap_eV": 5.}', "as in 5.0"),
        ('{"gap_eV": +5}', "without +"),
        ('{"gap_eV": \u22125}', "a plain minus"),
        ('{"gap_eV": 05}', "without zeros before it"),
        ('{"note": "D:\\data"}', "a backslash is written twice"),
        ('{"note": "one\ntwo"}', "has to end on its line"),
        ('{"sure": True}', "write null, true or false"),
        ('{"note": good}', "text stands in straight double quotes"),
        ('{"a": 1 "b": 2}', "a comma is missing before it"),
        ('{"a": 1}{"a": 2}', "there is more after the end"),
        ('{"gap_eV": NaN}', "use null"),
    ],
)
def test_slips_of_somebody_who_writes_json_by_hand(text: str, hint: str) -> None:
    with pytest.raises(InvalidJsonError, match=re.escape(hint)) as caught:
        parse_json(text.encode())
    if "NaN" not in text:
        assert str(caught.value).startswith("line ")
        assert "it reads" in str(caught.value)


def test_the_line_that_is_wrong_is_shown() -> None:
    with pytest.raises(InvalidJsonError, match=r"line 3, column 7: .*; it reads \"b\": .5,"):
        parse_json(b'{\n "a": 1,\n "b": .5,\n "c": 2}')
    with pytest.raises(InvalidJsonError) as caught:
        parse_json(b'{"a": "' + b"x" * 9000 + b'", "b": .5, "c": "' + b"x" * 9000 + b'"}')
    assert len(str(caught.value)) < 300


def _circle() -> Any:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"Cu": {"x": float("nan")}}, "state['Cu']['x'] is nan, which JSON does not have: use None"),
        ([1, [float("inf")]], "state[1][0] is inf"),
        ({"a": {1: 2}}, "state['a'] has the key 1: a JSON key is a string, so use str(...)"),
        ({"a": {1, 2}}, "state['a'] is a set: use list(...)"),
        ({"a": Decimal("1.5")}, "state['a'] is a decimal.Decimal: use float(...)"),
        ({"a": datetime.date(2025, 5, 1)}, "state['a'] is a datetime.date: use .isoformat()"),
        ({"a": 1j}, "state['a'] is a complex: use [z.real, z.imag]"),
        ({"a": object()}, "state['a'] is a object: use str(...)"),
        ({"a": ["\ud800"]}, "state['a'][0] cannot be written"),
        ({"a": 10**5000}, "state['a'] cannot be written"),
        (_circle(), "holds itself"),
    ],
)
def test_what_is_not_plain_is_named_by_its_place(value: Any, said: str) -> None:
    with pytest.raises(InvalidJsonError) as caught:
        dump_json(value, "the state", "state")
    assert said in str(caught.value)


def test_numpy_is_told_how_to_become_plain() -> None:
    numpy = pytest.importorskip("numpy")
    for value, cure in (
        (numpy.float32(1), "is a numpy.float32: use float(...)"),
        (numpy.int64(1), "is a numpy.int64: use int(...)"),
        (numpy.bool_(True), "use bool(...)"),
        (numpy.zeros(3), "is a numpy.ndarray: use .tolist()"),
    ):
        with pytest.raises(InvalidJsonError) as caught:
            dump_json({"mp-123": {"energy_eV": value}}, "the state", "state")
        assert "state['mp-123']['energy_eV'] " in str(caught.value)
        assert cure in str(caught.value)
    assert dump_json({"x": numpy.float64(1.5)}, "the state") == '{"x":1.5}'


def test_a_number_as_text_that_can_be_read_in_two_ways_gets_the_reason() -> None:
    (said,) = violations({"type": "number"}, "1,5")
    assert said.startswith("$: must be a number: '1,5' can be read in two ways")
    assert violations({"type": "number"}, "1.5") == ["$: must be a number, not '1.5'"]


def test_a_time_without_a_zone_gets_an_example() -> None:
    (said,) = violations({"type": "string", "format": "date-time"}, "2025-03-01T12:00:00")
    assert "with its zone, such as 2025-12-31T14:30:00+02:00" in said
