"""Optimizers in a run: as a task, behind a person's review, and from what is there already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

import matterstack as ms
from matterstack.errors import AnswerRefusedError, InvalidTaskError, OptimizerError
from matterstack.optimizers import Choice, Integer, Random, Real, Simplex, Sobol, Space, attach, review, suggest

SPACE = Space({"x": Real(0, 1), "k": Integer(1, 9), "gas": Choice(["air", "N2"]), "mix": Simplex(["Cu", "Au"])})


def made(base: Path, flow: ms.Workflow) -> ms.Run:
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator()}
    return ms.initialize_run("w", flow, base_path=base, operators=operators)


def warm(point: dict[str, Any]) -> bool:
    return bool(point["x"] > 0.5)


def propose(n: int, observed: Any) -> Any:
    space = Space({"x": Real(0, 1), "k": Integer(1, 9)}, constraint=warm)
    return Random(space).suggest(n, observed)


def test_suggest_is_a_task_whose_points_are_those_of_a_call(tmp_path: Path) -> None:
    observed = [{**point, "v": 1.0} for point in Sobol(SPACE).suggest(3)]
    optimizer = Random(SPACE, maximize="v", seed=3)
    flow = ms.Workflow()
    flow.add("suggest", suggest, optimizer, 4, observed, observed[:1])
    flow.add("from-table", suggest, optimizer, 4, pd.DataFrame(observed), observed[:1])
    flow.add("in-part", propose, 3, observed)
    run = made(tmp_path, flow)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED, list(run.tasks["reason"])
    assert run.value("suggest") == run.value("from-table") == optimizer.suggest(4, observed, observed[:1])
    assert all(point["x"] > 0.5 for point in run.value("in-part"))


def test_a_constraint_is_no_argument_and_the_refusal_says_which_part() -> None:
    optimizer = Random(Space({"x": Real(0, 1)}, constraint=warm))
    flow = ms.Workflow()
    with pytest.raises(InvalidTaskError, match=r"optimizer\.space\.constraint is a function"):
        flow.add("suggest", suggest, optimizer, 4)


def test_a_person_vetoes_edits_and_adds_and_only_points_of_the_space_go_out(tmp_path: Path) -> None:
    points = Sobol(SPACE).suggest(3)
    run = made(tmp_path, ms.Workflow([review("approve", points, SPACE, assignee="Ada")]))
    run.step()
    assert run.inbox()[0].assignee == "Ada"
    own = {"x": 0.5, "k": 3, "gas": "N2", "Cu": 0.25, "Au": 0.75}
    before = run.tasks.loc["0.approve"].to_dict()
    for change, said in [
        ({"x": 1.5}, r"\[1\].x: must be at most 1"),
        ({"k": 2.5}, "k: must be a whole number"),
        ({"gas": "Ar"}, "gas: must be 'air' or 'N2'"),
        ({"Cu": -0.1}, "Cu: must be at least 0"),
        ({"y": 1}, "'y' was not asked for"),
    ]:
        with pytest.raises(AnswerRefusedError, match=said):
            run.respond("approve", [points[0], own | change])
    assert run.tasks.loc["0.approve"].to_dict() == before
    run.respond("approve", [points[2] | {"x": 0.125}, own])
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    answer = run.results.loc["0.approve", "data"]
    assert answer == [points[2] | {"x": 0.125}, own]
    assert [SPACE.check(point) for point in answer] == answer


def test_the_templates_begin_with_the_suggestions_and_are_an_answer_as_they_are(tmp_path: Path) -> None:
    points = Sobol(SPACE).suggest(3)
    for ending in ("json", "csv", "xlsx"):
        run = made(tmp_path / ending, ms.Workflow([review("approve", points, SPACE)]))
        run.step()
        home = run.inbox()[0].directory
        if ending == "xlsx":
            book = openpyxl.load_workbook(home / "response.template.xlsx")
            book.save(home / "response.xlsx")
        else:
            (home / f"response.{ending}").write_text((home / f"response.template.{ending}").read_text())
        assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED, ending
        answer = run.results.loc["0.approve", "data"]
        # Excel keeps 15 digits and a bit of a number; a point is the same by fewer.
        assert [SPACE.key(SPACE.check(point)) for point in answer] == [SPACE.key(point) for point in points]
        assert ending == "xlsx" or answer == points


def test_a_review_of_what_is_outside_is_not_asked_for() -> None:
    with pytest.raises(OptimizerError, match="'x': must be a number from 0"):
        review("approve", [{"x": 2.0, "k": 1, "gas": "air", "Cu": 0, "Au": 1}], SPACE)
    with pytest.raises(OptimizerError, match="does not allow"):
        review("approve", [{"x": 0.1}], Space({"x": Real(0, 1)}, constraint=warm))


def test_what_is_known_already_is_attached_from_any_table(tmp_path: Path) -> None:
    rows = [
        {**point, "v": value, "who": "Ada"}
        for point, value in zip(Sobol(SPACE).suggest(3), (1, None, 2.5), strict=True)
    ]
    file = tmp_path / "known.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    wanted = [{key: value for key, value in row.items() if key != "who"} for row in rows]
    for table in (rows, pd.DataFrame(rows), file, str(file)):
        found = attach(table, SPACE, maximize="v")
        assert found == wanted
        assert json.loads(json.dumps(found)) == wanted
    assert Sobol(SPACE, maximize="v").suggest(1, wanted) == Sobol(SPACE).suggest(4)[3:]
    for change, said in [
        ({"x": 7}, "row 1 of the table: 'x': must be a number from 0.0 to 1.0, not 7"),
        ({"v": "high"}, "row 1 of the table: 'v' must be a number, or None"),
    ]:
        with pytest.raises(OptimizerError, match=said):
            attach([rows[0], rows[1] | change], SPACE, maximize="v")
    with pytest.raises(OptimizerError, match="row 0 of the table has no 'w'"):
        attach(rows, SPACE, minimize="w")
