"""Tables as people's spreadsheets write them: read rightly, or refused by line and column; never silently wrong."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matterstack.core.numbers import MINUSES, NUMBER, read_number
from matterstack.errors import InvalidJsonError
from matterstack.notebook.assets import script
from matterstack.operators.requests.answers import read_answer
from matterstack.operators.requests.tables import as_text, read_csv, write_csv

ROW = {
    "type": "object",
    "properties": {
        "sample": {"type": "string"},
        "gap_eV": {"type": ["number", "null"]},
        "count": {"type": "integer"},
        "sure": {"type": "boolean"},
        "rank": {"enum": [1, 2, "high"]},
        "share": {"minimum": 0, "maximum": 1},
    },
    "required": ["sample"],
    "additionalProperties": False,
}
TABLE: dict[str, Any] = {"type": "array", "items": ROW}
SMALL: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"sample": {"type": "string"}, "gap_eV": {"type": "number", "minimum": 0}},
        "required": ["sample", "gap_eV"],
    },
}

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**20), 10**20)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1).filter(str.strip)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"sample": TEXTS},
        optional={
            "gap_eV": NUMBERS | st.none(),
            "count": st.integers(-(10**18), 10**18),
            "sure": st.booleans(),
            "rank": st.sampled_from([1, 2, "high"]),
            "share": st.floats(0, 1),
        },
    ),
    max_size=6,
)


def wrong(raw: str | bytes, schema: dict[str, Any] = SMALL, name: str = "response.csv") -> list[str]:
    return read_answer(name, raw.encode() if isinstance(raw, str) else raw, schema).wrong


def rows(raw: str | bytes, schema: dict[str, Any] = SMALL, name: str = "response.csv") -> Any:
    reading = read_answer(name, raw.encode() if isinstance(raw, str) else raw, schema)
    assert reading.wrong == []
    return reading.value


@settings(max_examples=300, deadline=None)
@given(
    data=ROWS,
    order=st.permutations(list(ROW["properties"])),  # type: ignore[call-overload]
    delimiter=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    padding=st.integers(0, 2),
    blank=st.integers(0, 2),
    minus=st.sampled_from("-" + MINUSES),
    named=st.booleans(),
)
def test_a_table_in_any_dialect_reads_back_the_same(
    data: Any,
    order: list[str],
    delimiter: str,
    end: str,
    encoding: str,
    quoting: Any,
    padding: int,
    blank: int,
    minus: str,
    named: bool,
) -> None:
    def written(value: Any) -> str:
        match value:
            case None:
                return "null"
            case bool():
                return str(value).upper()
            case int() | float():
                text = repr(value).replace("-", minus)
                return text.replace(".", ",") if delimiter == ";" else text
        return str(value)

    text = io.StringIO()
    if named:
        text.write(f"sep={delimiter}{end}")
    table = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    table.writerow([f" {name}" for name in order] + [""] * padding)
    for row in data:
        table.writerow([written(row[name]) if name in row else " " for name in order] + [""] * padding)
        for _ in range(blank):
            table.writerow([""] * (len(order) + padding))
    assert rows(text.getvalue().encode(encoding), TABLE) == data


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80) | st.text(alphabet='sample,gap_eV;\t"\r\n 0.1-', max_size=80).map(str.encode))
def test_any_bytes_are_a_table_or_refused_in_words(raw: bytes) -> None:
    try:
        read_csv(b"sample,gap_eV\n" + raw, SMALL)
        read_csv(raw, SMALL)
    except InvalidJsonError as error:
        assert str(error)  # noqa: PT017


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_an_editor_counts_them(end: str) -> None:
    lines = ["sample,gap_eV", '"two', 'lines",1', "", "Cu2O,many", "Cu2O,-1", '"two', 'lines",x', ""]
    assert wrong(end.join(lines)) == [
        "line 5, column gap_eV: must be a number, not 'many'",
        "line 6, column gap_eV: must be at least 0, not -1",
        "line 7, column gap_eV: must be a number, not 'x'",
    ]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ('sample,gap_eV\nTiO2,"3,2"\n', "line 2, column gap_eV: '3,2' can be read in two ways.*point.*3.2"),
        ("sample\tgap_eV\nTiO2\t3,2\n", "line 2, column gap_eV: '3,2' can be read in two ways"),
        ('sample,gap_eV\nTiO2,"1,234"\n', "'1,234' can be read in two ways"),
        ("sample;gap_eV\nTiO2;1.234\n", "line 2, column gap_eV: '1.234' can be read in two ways.*1,234 or 1234"),
        ("sample;gap_eV\nTiO2;1.234,5\n", "'1.234,5' can be read in two ways"),
        ("sample,gap_eV\nTiO2,1'234\n", "parts? thousands"),
        ("sample,gap_eV\nTiO2,3,2\n", "line 2: 3 cells, but 2 columns.*'2'.*decimal sign"),
        ("sample,gap_eV\nTiO2\n", "line 2: 1 cells, but 2 columns"),
        ("sample,gap_ev\nTiO2,3.2\n", "line 1: column gap_ev was not asked for.*is gap_eV meant"),
        ("sample,gap_eV,note\nTiO2,3.2,\n", "column note was not asked for"),
        ("sample,gap_eV,\nTiO2,3.2,good\n", "line 2: 3 cells.*'good'"),
        ("sample,gap_eV,sample\nTiO2,3.2,a\n", "line 1: column sample stands there twice"),
        ("sample|gap_eV\nTiO2|3.2\n", "the first line must name the columns.*sample, gap_eV"),
        ("sample\nTiO2;3.2\n", "it cannot be told what parts the others"),
        ("sep=|\nsample|gap_eV\nTiO2|3.2\n", r"not by '\|'"),
        ("", "the first line must name the columns"),
        ("\n,\n", "the first line must name the columns"),
        ("sample,gap_eV\nTiO2,3.2\n".encode("utf-16-le"), "NUL.*CSV UTF-8"),
        ("sample,gap_eV\nTiO2,3.2\n".encode("utf-32"), "not UTF-8.*CSV UTF-8"),
        (
            "sample,gap_eV\r\nSi,1.1\r\n25 °C,3.2\r\n".encode("cp1252"),
            r"line 3: not UTF-8: in Excel choose .*CSV UTF-8",
        ),
        ('sample,gap_eV\n"Ti"O2,3.2\n', "line 2.*quotation mark"),
        ("sample,gap_eV\nTiO2,nan\n", "must be a number, not 'nan'"),
        ("sample,gap_eV\nTiO2,#DIV/0!\n", "must be a number"),
        ("sample,gap_eV\nTiO2,1e999\n", "must be a number"),
        ("sample,gap_eV\nTiO2,1_000\n", "must be a number"),
        ("sample,gap_eV\nTiO2,٣\n", "must be a number"),
    ],
)
def test_what_can_be_read_in_two_ways_or_none_is_refused_with_its_place(raw: str | bytes, said: str) -> None:
    (found,) = wrong(raw)
    assert re.search(said, found), found


@pytest.mark.parametrize(
    ("cell", "value"), [(".5", 0.5), ("+1.5", 1.5), ("\u22120.5", None), ("007", 7), ("1e-3", 0.001), ("2.", 2.0)]
)
def test_numbers_count_as_the_form_counts_them(cell: str, value: float | None) -> None:
    if value is None:
        assert wrong(f"sample,gap_eV\nSi,{cell}\n") == ["line 2, column gap_eV: must be at least 0, not -0.5"]
    else:
        assert rows(f"sample,gap_eV\nSi,{cell}\n") == [{"sample": "Si", "gap_eV": value}]
    form = script("form.js")
    assert f"/^{NUMBER}$/" in form
    assert "/[" + "".join(f"\\u{ord(minus):04x}" for minus in MINUSES) + "]/g" in form


def test_columns_are_allowed_in_so_many_words_only() -> None:
    raw = "sample,gap_eV,T_300K,T_note\nSi,1.1,5,x\n"
    items = {**SMALL["items"], "patternProperties": {"^T_.*K$": {"type": "number"}}}
    assert wrong(raw, {**SMALL, "items": items})[0].startswith("line 1: column T_note was not asked for")
    items["additionalProperties"] = {"type": "string"}
    assert rows(raw, {**SMALL, "items": items}) == [{"sample": "Si", "gap_eV": 1.1, "T_300K": 5, "T_note": "x"}]
    items = {**SMALL["items"], "additionalProperties": True}
    assert rows(raw, {**SMALL, "items": items})[0]["T_300K"] == "5"


def test_cells_of_choices_and_of_bounds_are_read_by_them() -> None:
    def of(inner: Any) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "object", "properties": {"c": inner}}}

    assert rows("c\n1\n2.0\n", of({"enum": [1, 2, 3]})) == [{"c": 1}, {"c": 2}]
    assert rows("c\nTRUE\nnull\n", of({"enum": [True, None]})) == [{"c": True}, {"c": None}]
    assert rows("c\n high \n", of({"enum": ["high", "low"]})) == [{"c": "high"}]
    assert wrong("c\n4\n", of({"enum": [1, 2]})) == ["line 2, column c: must be 1 or 2, not '4'"]
    assert "can be read in two ways ('1' or 1)" in wrong("c\n1\n", of({"enum": ["1", 1]}))[0]
    assert rows("c\n0.5\n", of({"minimum": 0})) == [{"c": 0.5}]
    assert rows("c\n2\n", of({"const": 2})) == [{"c": 2}]
    assert rows("c\n2\nnull\n", of({"anyOf": [{"type": "number"}, {"type": "null"}]})) == [{"c": 2}, {"c": None}]
    assert rows("c\nwahr\nNo\n", of({"type": "boolean"})) == [{"c": True}, {"c": False}]
    referring = {**of({"$ref": "#/$defs/gap"}), "$defs": {"gap": {"type": "number"}}}
    assert rows("c\n2\n", referring) == [{"c": 2}]


def test_what_is_handed_out_is_no_formula_and_reads_back() -> None:
    cells = ["=1+1", "+cmd", "@x", "-2+3", "\t=1", " =1", -1.5, "-1.5", "Cu2O", ""]
    shown = [as_text(cell) for cell in cells]
    assert shown == ["'=1+1", "'+cmd", "'@x", "'-2+3", "'\t=1", "' =1", -1.5, "-1.5", "Cu2O", ""]
    odd = {"type": "array", "items": {"type": "object", "properties": {"=gap": {"type": "number"}}}}
    assert rows(write_csv([["=gap"], [2]]), odd) == [{"=gap": 2}]


@given(NUMBERS, st.sampled_from(".,"))
def test_a_number_is_read_as_it_is_written(number: float, decimal: str) -> None:
    text = repr(number).replace(".", decimal)
    assert read_number(text, decimal) == number
