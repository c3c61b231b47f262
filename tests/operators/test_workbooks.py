"""Tables as workbooks of Excel: handed out to be filled in, and read back by the same rules as CSV."""

from __future__ import annotations

import datetime
import io
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matterstack as ms
from matterstack.operators.requests import request_directory, workbooks
from matterstack.operators.requests.answers import read_answer

openpyxl = pytest.importorskip("openpyxl")

TABLE: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "sample": {"type": "string", "description": "as on the label"},
            "gap_eV": {"type": "number", "minimum": 0, "unit": "eV"},
            "phase": {"enum": ["cubic", "hexagonal"]},
            "rank": {"enum": [1, 2]},
            "pure": {"type": "boolean"},
            "on": {"type": "string", "format": "date"},
        },
        "required": ["sample", "gap_eV"],
        "additionalProperties": False,
    },
}


def workbook(fill: Callable[[Any], object]) -> bytes:
    book = openpyxl.Workbook()
    fill(book.active)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def filled(*rows: list[Any]) -> bytes:
    def fill(sheet: Any) -> None:
        for row in rows:
            sheet.append(row)

    return workbook(fill)


def read(raw: bytes) -> tuple[Any, list[str]]:
    reading = read_answer("response.xlsx", raw, TABLE)
    return reading.value, reading.wrong


def test_a_workbook_is_handed_out_filled_in_and_taken(tmp_path: Path) -> None:
    task = ms.Task("measure", operator="human", schema=TABLE)
    run = ms.initialize_run("w", ms.Workflow([task]), base_path=tmp_path, operators={"human": ms.HumanOperator()})
    run.step()
    home = run.inbox()[0].directory
    assert "response.xlsx" in (home / "HOWTO.txt").read_text()
    book = openpyxl.load_workbook(home / "response.template.xlsx")
    (sheet,) = book.worksheets
    assert [cell.value for cell in sheet[1]] == list(TABLE["items"]["properties"])
    assert "save it as response.xlsx" in sheet["A1"].comment.text
    assert "in eV; at least 0" in sheet["B1"].comment.text
    lists = {rule.formula1: str(rule.sqref) for rule in sheet.data_validations.dataValidation}
    assert lists == {'"cubic,hexagonal"': "C2:C1000", '"1,2"': "D2:D1000", '"TRUE,FALSE"': "E2:E1000"}
    assert sheet.column_dimensions["A"].number_format == "@"
    sheet.append(["Cu2O", "many", "cubic", 1, True])
    book.save(home / "response.xlsx")
    assert run.wait(timeout_s=120) is ms.RunStatus.RUNNING
    assert "line 2, column gap_eV: must be a number, not 'many'" in str(run.tasks.loc["0.measure", "reason"])
    sheet["B2"] = 2.1
    book.save(home / "response.xlsx")
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert run.results.loc["0.measure", "data"] == [
        {"sample": "Cu2O", "gap_eV": 2.1, "phase": "cubic", "rank": 1, "pure": True}
    ]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "sample": st.text("abcXYZ012 =+-@é²,;\"'", min_size=1).filter(str.strip),
                "gap_eV": st.integers(0, 10**9).map(lambda n: n / 1000) | st.integers(0, 10**15),
            },
            optional={
                "phase": st.sampled_from(["cubic", "hexagonal"]),
                "rank": st.sampled_from([1, 2]),
                "pure": st.booleans(),
            },
        ),
        max_size=4,
    )
)
def test_a_workbook_reads_back_the_same(data: Any) -> None:
    names = list(TABLE["items"]["properties"])

    def fill(sheet: Any) -> None:
        sheet.append([*names, None])
        for row in data:
            sheet.append([row.get(name) for name in names])
            for cell in sheet[sheet.max_row]:
                if cell.data_type == "f":
                    cell.data_type = "s"
            sheet.append([])

    assert read(workbook(fill)) == (data, [])


def test_names_that_are_numbers_to_excel_stay_names() -> None:
    value, wrong = read(filled(["sample", "gap_eV"], [110, 1], [1.5, 2], [True, 3]))
    assert wrong == []
    assert [row["sample"] for row in value] == ["110", "1.5", "TRUE"]


def _merged(sheet: Any) -> None:
    sheet.append(["sample", "gap_eV"])
    sheet.append(["Si", 1])
    sheet.merge_cells("A2:A3")


def _two_sheets(sheet: Any) -> None:
    sheet.append(["sample", "gap_eV"])
    sheet.parent.create_sheet("old").append(["Si", 1])


def _far(sheet: Any) -> None:
    sheet["A1"] = "sample"
    sheet["XFD1048576"] = " "


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (filled(["sample", "gap_eV"], ["Si", "=1+1"]), "line 2, column gap_eV: holds a formula whose result"),
        (filled(["sample", "gap_eV"], ["Si", datetime.date(2025, 5, 1)]), "line 2, column gap_eV: is a date to Excel"),
        (filled(["sample", "gap_eV"], [datetime.date(2025, 3, 1), 1]), "line 2, column sample: is a date to Excel"),
        (filled(["sample", "gap_eV"], ["Si", "3,2"]), "line 2, column gap_eV: '3,2' can be read in two ways"),
        (filled(["sample", "gap_eV"], ["Si", True]), "line 2, column gap_eV: must be a number, not true"),
        (filled(["sample", "gap_eV"], ["Si", 1, "note"]), "line 2: 3 cells"),
        (filled(["sample", "Gap"], ["Si", 1]), "line 1: column Gap was not asked for"),
        (filled(["sample", "gap_eV"], ["Si", "#DIV/0!"]), "line 2, column gap_eV: holds the error #DIV/0!"),
        (filled(), "the sheet is empty"),
        (workbook(_merged), "the cells A2:A3 are merged"),
        (workbook(_two_sheets), "2 sheets with something in them ('Sheet', 'old')"),
        (workbook(_far), "reaches to line 1048576 and column 16384"),
        (b"PK\x03\x04 half of it", "no workbook of Excel"),
        (b'{"gap_eV": 1}', "no workbook of Excel"),
    ],
)
def test_what_is_strange_in_a_workbook_is_told_with_its_place(raw: bytes, said: str) -> None:
    assert said in read(raw)[1][0]


def test_dates_where_dates_are_asked_for() -> None:
    day = datetime.datetime(2025, 5, 1)
    value, wrong = read(filled(["sample", "gap_eV", "on"], ["Si", 1, day]))
    assert (value[0]["on"], wrong) == ("2025-05-01", [])


def test_an_archive_that_is_no_workbook() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("[Content_Types].xml", "<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>")
    assert "no workbook that can be read" in read(content.getvalue())[1][0]


def test_without_openpyxl_a_workbook_gets_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (workbooks, request_directory, ms.operators.requests.human):  # type: ignore[attr-defined]
        monkeypatch.setattr(module, "can_use_workbooks", lambda: False)
    task = ms.Task("measure", operator="human", schema=TABLE)
    run = ms.initialize_run("w", ms.Workflow([task]), base_path=tmp_path, operators={"human": ms.HumanOperator()})
    run.step()
    home = run.inbox()[0].directory
    assert not (home / "response.template.xlsx").exists()
    assert "xlsx" not in (home / "HOWTO.txt").read_text()
    (home / "response.xlsx").write_bytes(filled(["sample", "gap_eV"], ["Si", 1]))
    os.utime(home / "response.xlsx", (time.time() - 10,) * 2)
    run.step()
    said = str(run.tasks.loc["0.measure", "reason"])
    assert "there is response.xlsx: in Excel choose 'Save As', 'CSV UTF-8 (comma delimited)'" in said
    assert "name it response.csv" in said
