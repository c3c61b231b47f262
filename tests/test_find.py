"""What is looked for over all runs: by tags, by what tasks gave, by files."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filled import fill
from hypothesis import example, given, settings
from hypothesis import strategies as st
from older import run_of_version_1

import matterstack as ms
from matterstack import cli
from matterstack.core.conditions import Condition, conditions_of, parse_condition, path_of, written
from matterstack.core.tags import tags_of
from matterstack.errors import (
    FindError,
    InvalidConfigError,
    InvalidTaskError,
    RunExistsError,
    RunLockedError,
    RunNotFoundError,
    UnknownTaskError,
)
from matterstack.orchestration import each_run
from matterstack.storage import database
from matterstack.storage.database import Connection


def gives(task_id: str, data: Any, **options: Any) -> ms.Task:
    """Return a task that gives this data."""
    return ms.Task(task_id, "cp given.json result.json", files={"given.json": json.dumps(data)}, **options)


def made(base: Path, run_id: str, *tasks: ms.Task, workspace: str = "w", tags: Any = ()) -> ms.Run:
    """Return a run of some tasks that is over."""
    run = ms.initialize_run(workspace, ms.Workflow(list(tasks)), base_path=base, run_id=run_id, tags=tags)
    run.wait(timeout_s=60)
    return run


# -- tags ---------------------------------------------------------------------------------------


def test_tags_are_planned_and_added_and_taken_away(tmp_path: Path) -> None:
    run = made(tmp_path, "r", ms.Task("a", "true", tags=["cathode"]), ms.Task("b", "true"), tags=["batch 2"])
    assert run.tags == ("batch 2",)
    assert list(run.tasks["tags"]) == ["cathode", ""]
    run.tag("paper", "batch 2").tag("bad", task_id=["a", "0.b"]).untag("cathode", "nobody has it", task_id="a")
    again = ms.open_run(run.path)
    assert again.tags == ("batch 2", "paper")
    assert list(again.tasks["tags"]) == ["bad", "bad"]
    events = again.events[again.events["event"].isin(["tag", "untag"])]
    assert list(zip(events["event"], events["status"], events["reason"], strict=True)) == [
        ("tag", "COMPLETED", "paper, batch 2"),
        ("tag", "COMPLETED", "bad: 0.a, 0.b"),
        ("untag", "COMPLETED", "cathode, nobody has it: 0.a"),
    ]
    again.tag("paper").untag("never there")
    assert len(again.events) == len(run.events) == events["seq"].max(), "what changes nothing is not written"
    assert list(ms.runs("w", tmp_path)["tags"]) == ["batch 2, paper"]
    assert ms.open_run(run.path).store.check() == []


def test_a_tag_is_no_part_of_what_is_done(tmp_path: Path) -> None:
    plain, tagged = ms.Task("a", "true"), ms.Task("a", "true", tags="x")
    assert "tags" not in plain.to_json()
    assert ms.Task.from_json(tagged.to_json()) == tagged
    run = made(tmp_path, "r", tagged)
    again = ms.initialize_run("w", ms.Workflow([plain]), base_path=tmp_path, run_id="r", if_exists="open")
    assert list(again.tasks["tags"]) == list(run.tasks["tags"]) == ["x"]
    with pytest.raises(RunExistsError, match="differs in command"):
        ms.initialize_run("w", ms.Workflow([ms.Task("a", "false")]), base_path=tmp_path, run_id="r", if_exists="open")
    cache = tmp_path / "cache"
    for tags in ("first", "second"):
        task = gives("a", {"n": 1}, tags=tags, cache=True)
        last = ms.initialize_run("c", ms.Workflow([task]), base_path=tmp_path, run_id=tags, cache=cache)
        last.wait(timeout_s=60)
    assert last.attempts["cached"].iloc[0] == "first 0.a.1"


def test_the_function_of_a_task_may_have_tags(tmp_path: Path) -> None:
    @ms.task(tags=["fast"])
    def double(x: int) -> int:
        return 2 * x

    flow = ms.Workflow()
    flow.add("a", double, 1)
    flow.add("b", double.with_options(tags=["slow"]), 2)
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    assert list(run.tasks["tags"]) == ["fast", "slow"]


@pytest.mark.parametrize("wrong", ["", " ", "a,b", "a\nb", "\x1b[31m", "\ud800", "\u202e", "x" * 65, 7, None, [[]]])
def test_what_is_no_tag_is_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(InvalidTaskError, match="'a': tags must be"):
        ms.Task("a", "true", tags=[wrong])
    with pytest.raises(InvalidConfigError, match="tags must be"):
        ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path, tags=[wrong])
    assert not list(tmp_path.iterdir())


def test_tags_that_cannot_be_added_change_nothing(tmp_path: Path) -> None:
    run = made(tmp_path, "r", ms.Task("a", "true"), tags=[f"t{n}" for n in range(32)])
    for wrong in (["one too many"], ["a,b"], []):
        with pytest.raises(InvalidConfigError):
            run.tag(*wrong)
    with pytest.raises(UnknownTaskError, match="no task 'b'"):
        run.tag("x", task_id=["a", "b"])
    assert (len(run.tags), list(run.tasks["tags"])) == (32, [""])
    with ms.open_run(run.path)._session.locked(), pytest.raises(RunLockedError):
        run.tag("x")


@settings(deadline=None)
@given(st.lists(st.text(min_size=1), max_size=40))
def test_a_tag_is_kept_in_one_form(words: list[str]) -> None:
    try:
        tags = tags_of(words, lambda rule, value: ValueError(rule))
    except ValueError:
        return
    assert tags_of(list(tags), lambda rule, value: ValueError(rule)) == tags
    assert tuple(", ".join(tags).split(", ")) == (tags or ("",))


def test_to_tag_is_no_move_of_the_run(tmp_path: Path) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path)
    run.tag("early").tag("early", task_id="a")
    assert run.store.moved_at() is None, "so that no view takes it for the start"
    run.wait(timeout_s=60)
    ended = run.store.moved_at(last=True)
    hours = run.spent.wall_h
    run.tag("late")
    assert (run.store.moved_at(last=True), run.spent.wall_h) == (ended, hours)


def test_a_run_of_version_1_is_tagged_once_it_is_lifted(tmp_path: Path) -> None:
    run = ms.open_run(run_of_version_1(tmp_path))
    assert (run.tags, run.store.version) == ((), 1)
    run.tag("old")
    assert list(run.tags) == ["old"]
    assert ms.open_run(run.path).store.version == 2


def test_strange_tags_of_a_stranger_are_none(tmp_path: Path) -> None:
    run = made(tmp_path, "r", ms.Task("a", "true"))
    for said in ('{"a": 1}', "[1, null]", "nonsense", "[" * 5000, b"\x00\xff"):
        with closing(sqlite3.connect(run.path / "state.sqlite")) as connection, connection:
            connection.execute("UPDATE runs SET tags = ?", (said,))
            connection.execute("UPDATE tasks SET tags = ?", (said,))
        assert ms.open_run(run.path).tags == ()
        assert list(ms.open_run(run.path).tasks["tags"]) == [""]


# -- tasks --------------------------------------------------------------------------------------


@ms.task
def relax(formula: str, strain: float = 0.0) -> dict[str, Any]:
    return {"energy_eV": -len(formula) - strain, "formula": formula}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where three runs of two workspaces are over."""
    home = tmp_path_factory.mktemp("base")
    flow = ms.Workflow()
    for number, formula in enumerate(["LiCoO2", "NaCl", "Al"]):
        flow.add(f"relax_{number}", relax, formula, strain=number / 10)
    ms.initialize_run("oxides", flow, base_path=home, run_id="r1", tags=["cathode"]).wait(timeout_s=60)
    made(
        home,
        "r2",
        gives(
            "done",
            {"energy_eV": "5", "a.b": 1, "converged": True, "nothing": None, "cell": {"a": 3.9, "sites": ["Li"]}},
            parameters={"temperature_K": 300},
        ),
        ms.Task(
            "failed", "exit 1", parameters={"temperature_K": 400, "energy_eV": -9}, tags=["anode"], allow_failure=True
        ),
        workspace="oxides",
    )
    made(home, "r3", gives("list", [1, 2], tags=["anode"]), gives("word", "Li"), workspace="alloys")
    return home


def found(base: Path, **wanted: Any) -> list[str]:
    """Return run and task of what is found everywhere."""
    frame = ms.find_tasks("*", base_path=base, **wanted)
    return [f"{run} {task}" for run, task in zip(frame["run_id"], frame["task_id"], strict=True)]


def test_tasks_are_found_over_all_runs(base: Path) -> None:
    frame = ms.find_tasks("oxides", relax, columns=["energy_eV", "strain", "status"], base_path=base)
    assert list(frame.columns) == [
        "workspace", "run_id", "iteration", "task_id", "status", "function", "tags", "energy_eV", "strain", "status_",
    ]  # fmt: skip
    assert frame.iloc[1].tolist() == [
        "oxides", "r1", 0, "relax_1", "COMPLETED", "relax", "cathode", -4.1, 0.1, None,
    ]  # fmt: skip
    assert frame["energy_eV"].dtype == "float64"
    assert found(base) == ["r3 list", "r3 word", "r1 relax_0", "r1 relax_1", "r1 relax_2", "r2 done", "r2 failed"]
    assert found(base, where={"energy_eV": ("<", -4)}) == ["r1 relax_0", "r1 relax_1", "r2 failed"]
    assert found(base, function="relax", where={"energy_eV": ("<", -4)}) == ["r1 relax_0", "r1 relax_1"]
    assert found(base, task="relax_[12]") == ["r1 relax_1", "r1 relax_2"]
    assert found(base, status=["FAILED", "SKIPPED"]) == ["r2 failed"]
    assert found(base, tags="anode") == ["r3 list", "r2 failed"]
    assert found(base, tags=["cathode"], task="*_0") == ["r1 relax_0"], "those of its run count"
    assert found(base, tags=["cathode", "anode"]) == found(base, function="no such") == []


@pytest.mark.parametrize(
    ("where", "tasks"),
    [
        ({"formula": "LiCoO2"}, ["r1 relax_0"]),
        ({"cell.sites": ("contains", "Li"), "cell.a": 3.9}, ["r2 done"]),
        ({"formula": ("contains", "Na")}, ["r1 relax_1"]),
        ({"energy_eV": ("<", "6")}, ["r2 done"]),  # the text "5" is below the text "6", and no number
        ({"energy_eV": (">", 0)}, []),
        ({"energy_eV": [(">", -6), ("<=", -4.1)]}, ["r1 relax_1"]),
        ({"strain": ("between", 0.1, 0.2), "formula": ("in", ["Al", 7, True])}, ["r1 relax_2"]),
        ({"converged": True}, ["r2 done"]),
        ({"converged": 1}, []),
        ({"a.b": ("exists", True)}, []),
        ({'"a.b"': 1}, ["r2 done"]),
        ({("a.b",): ("!=", 2)}, ["r2 done"]),
        ({"temperature_K": (">=", 300)}, ["r2 done", "r2 failed"]),
        ({"nothing": None, "converged": ("!=", None)}, ["r2 done"]),
        ({"data": ("contains", 2)}, ["r3 list"]),
        ({"data": "Li"}, ["r3 word"]),
        ({"energy_eV": (">", float("-inf")), "formula": ("!=", "Al")}, ["r1 relax_0", "r1 relax_1"]),
    ],
)
def test_conditions(base: Path, where: Any, tasks: list[str]) -> None:
    assert found(base, where=where) == tasks


def test_results_of_all_runs(base: Path) -> None:
    frame = ms.results("oxides", "relax", base_path=base)
    one = ms.open_run(base / "workspaces/oxides/runs/r1").results_of(relax)
    assert list(frame.columns) == ["workspace", "run_id", *one.columns]
    pd.testing.assert_frame_equal(frame[list(one.columns)], one.reset_index(drop=True))
    every = ms.results("*", base_path=base)
    assert len(every) == 6
    assert every["data"].dropna().tolist() == [[1, 2], "Li"]
    assert list(ms.results(["alloys", "oxides"], where={"data": "Li"}, base_path=base)["task_id"]) == ["word"]
    assert ms.results("alloys", "no such", base_path=base).empty


def test_workspaces_are_named_by_name_pattern_and_path(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base)
    several: list[Any] = [
        "oxides",
        "ox*",
        base / "workspaces" / "oxides",
        "workspaces/oxides/",
        ["oxides", Path("workspaces/oxides")],
    ]
    for named in several:
        assert sorted(set(ms.find_tasks(named)["run_id"])) == ["r1", "r2"]
    for wrong in ("none", "x*", "workspaces", "../x/y", tmp_path / "workspaces" / "w"):
        with pytest.raises(RunNotFoundError):
            ms.find_tasks(wrong)
    with pytest.raises(FindError, match=r"and not by \[7\]"):
        ms.find_tasks([7])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"where": {"x": ("~", 1)}}, "no operator"),
        ({"where": {"x": ("<", float("nan"))}}, "nothing is compared with NaN"),
        ({"where": {"x": ("<", True)}}, "have no order"),
        ({"where": {"x": ("<", None)}}, "None"),
        ({"where": {"x": ("<",)}}, "say"),
        ({"where": {"x": ()}}, "no operator"),
        ({"where": {"x": ("between", 1, "2")}}, "two numbers, or two texts"),
        ({"where": {"x": ("in", "text")}}, "takes a list"),
        ({"where": {"x": [1, 2]}}, "a number, a text, True or False"),
        ({"where": {"x": "a\0b"}}, "a number, a text"),
        ({"where": {"x": ("exists", 1)}}, "True or False"),
        ({"where": {"a..b": 1}}, "is not a path"),
        ({"where": {"": 1}}, "is not a path"),
        ({"where": {'"a': 1}}, "is not a path"),
        ({"where": {(): 1}}, "is not a path"),
        ({"where": {("a", 1): 1}}, "is not a path"),
        ({"where": "energy_eV < 3"}, "where must be a mapping"),
        ({"columns": ["a b"]}, "is not a path"),
        ({"columns": 7}, "is a list"),
        ({"status": "DONE"}, "no status of a task"),
        ({"tags": "a,b"}, "tags must be"),
        ({"task": "\ud800"}, "no name"),
    ],
)
def test_what_makes_no_sense_is_refused(base: Path, wanted: dict[str, Any], said: str) -> None:
    with pytest.raises(FindError, match=said):
        ms.find_tasks("*", base_path=base, **wanted)


# -- paths and values of anybody ----------------------------------------------------------------

KEYS = st.one_of(
    st.sampled_from(
        ["a", "a.b", 'a"b', "$", '"', "\\", "", "'", "é", "[0]", '"; DROP TABLE tasks; --', "#-1", "0", "\x01"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["5", "Li"]), KEYS,
)  # fmt: skip
DATA = st.dictionaries(
    KEYS, st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(KEYS, SCALARS, max_size=3))
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """Return the base of a run with one completed task, and a connection that says what it gave."""
    home = tmp_path_factory.mktemp("filled")
    run = made(home, "r", ms.Task("a", "true"))
    with closing(sqlite3.connect(run.path / "state.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        yield home, connection


def give(connection: sqlite3.Connection, data: Any, *, ascii_only: bool) -> None:
    connection.execute("UPDATE attempts SET data = ?", (json.dumps(data, ensure_ascii=ascii_only),))


def holds(value: Any, operator: str, said: Any) -> bool:
    """Return whether a condition holds, as the page says it."""

    def alike(one: Any) -> bool:
        kinds = [bool if isinstance(each, bool) else str if isinstance(each, str) else float for each in (value, one)]
        return isinstance(value, bool | str | int | float) and kinds[0] is kinds[1]

    def equal(one: Any) -> bool:
        return alike(one) and bool(value == one)

    if operator == "exists":
        return (value is not None) is said
    if operator == "==":
        return equal(said)
    if operator == "!=":
        return value is not None and not equal(said)
    if operator == "in":
        return any(map(equal, said))
    if operator == "contains":
        inside = isinstance(value, str) and isinstance(said, str) and said in value
        return inside or (isinstance(value, list) and any(holds(one, "==", said) for one in value))
    if operator == "between":
        return alike(said[0]) and said[0] <= value <= said[1]
    return alike(said) and {"<": value < said, "<=": value <= said, ">": value > said, ">=": value >= said}[operator]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_keys_and_values_are_called_they_are_only_compared(
    filled: tuple[Path, sqlite3.Connection], data: st.DataObject
) -> None:
    home, connection = filled
    gave = data.draw(DATA)
    give(connection, gave, ascii_only=data.draw(st.booleans()))
    key = data.draw(st.one_of(st.sampled_from(sorted(gave)), KEYS) if gave else KEYS)
    value: Any = gave.get(key)
    path: tuple[str, ...] = (key,)
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        path = (key, data.draw(st.sampled_from(sorted(value))))
        value = value[path[1]]
    of_value = st.just(value) if isinstance(value, str | int | float) and "\0" not in str(value) else st.nothing()
    plain = st.one_of(of_value, SCALARS.filter(lambda one: one is not None))
    operator = data.draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "between", "contains", "exists"]))
    ordered = plain.filter(lambda one: not isinstance(one, bool))
    said: tuple[Any, ...] = (data.draw(ordered if operator in "<=>=" and operator not in ("==",) else plain),)
    if operator == "in":
        said = (data.draw(st.lists(plain, min_size=1, max_size=3)),)
    elif operator == "exists":
        said = (data.draw(st.booleans()),)
    elif operator == "between":
        kind = str if isinstance(value, str) else (int, float)
        said = tuple(
            sorted(data.draw(st.lists(ordered.filter(lambda one: isinstance(one, kind)), min_size=2, max_size=2)))
        )
    frame = ms.find_tasks("w", where={path: (operator, *said)}, columns=[path], base_path=home)
    assert frame.attrs["unread"] == {}
    expected = said if operator == "between" else said[0]
    assert bool(len(frame)) is holds(value, operator, expected)
    whole: Any = ms.find_tasks("w", columns=[path], base_path=home).iloc[0, -1]
    assert whole == value or (value is None and whole is None) or (value is None and pd.isna(whole))


def test_keys_and_values_of_a_shell(base: Path) -> None:
    for text, condition in {
        "energy_eV<-3": Condition(("energy_eV",), "<", -3),
        " energy_eV  >= -3.5e-1 ": Condition(("energy_eV",), ">=", -0.35),
        "formula=LiCoO2": Condition(("formula",), "==", "LiCoO2"),
        "formula == two words": Condition(("formula",), "==", "two words"),
        'cell."a.b" != "x"': Condition(("cell", "a.b"), "!=", "x"),
        "n in [1, 2]": Condition(("n",), "in", (1, 2)),
        "n between [1, 2]": Condition(("n",), "between", (1, 2)),
        "formula contains Li": Condition(("formula",), "contains", "Li"),
        "done==true": Condition(("done",), "==", True),
        "n exists": Condition(("n",), "exists", True),
        "n exists false": Condition(("n",), "exists", False),
        "__import__('os') < 3": Condition(("__import__('os')",), "<", 3),  # a key as any other
        "n == null": Condition(("n",), "exists", False),
    }.items():
        assert parse_condition(text) == condition


@pytest.mark.parametrize(
    "text",
    ["", "x", "x <", "< 3", "x < y", "x ~ 3", "x == True", "x < NaN", "x == [1", "x in 3", "x between [1]", "x << 3",
     "x between 1", "x < inf", "x exists 3", "a..b < 3", "x < 1 or 1", "x\0 < 3", 'x == "a', "x = = 3"],
)  # fmt: skip
def test_what_is_no_condition_of_a_shell_is_refused(text: str) -> None:
    with pytest.raises(FindError):
        parse_condition(text)


@settings(deadline=None)
@given(st.text(max_size=20))
@example("a<" + "[" * 5000)
def test_any_text_of_a_shell_is_a_condition_or_refused(text: str) -> None:
    with contextlib.suppress(FindError):
        condition = parse_condition(text)
        assert conditions_of({condition.path: condition.said}) == (condition,)


@settings(deadline=None)
@given(st.lists(KEYS, min_size=1, max_size=4))
def test_every_path_can_be_written(keys: list[str]) -> None:
    assert path_of(".".join(json.dumps(key) for key in keys)) == tuple(keys)
    assert path_of(written(tuple(keys))) == tuple(keys)


# -- files --------------------------------------------------------------------------------------


def test_who_made_and_who_used_a_file(tmp_path: Path) -> None:
    base, cache = tmp_path / "base", tmp_path / "cache"
    relaxed = ms.Task("relax", "echo 1.23 > final.xyz; echo '{}' > result.json", outputs=["final.xyz"], cache=True)
    band = ms.Task("band", "cat start.xyz", files={"start.xyz": ms.FromTask("relax", "final.xyz")})
    first = ms.initialize_run("w", ms.Workflow([relaxed, band]), base_path=base, run_id="first", cache=cache)
    assert first.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    second = ms.initialize_run("w", ms.Workflow([relaxed]), base_path=base, run_id="second", cache=cache)
    assert second.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    outside = tmp_path / "mine.xyz"
    outside.write_text("1.23\n")
    taken = [
        ms.Task("of_run", "true", files={"in.xyz": ms.FromTask("relax", "final.xyz", run=first)}),
        ms.Task("of_disk", "true", files={"my.xyz": outside}),
    ]
    made(base, "third", *taken, workspace="v")
    frame = ms.find_file(outside, base_path=base)
    rows = frame[["role", "workspace", "run_id", "attempt", "name", "of_run", "of_attempt"]].to_numpy().tolist()
    assert rows == [
        ["made", "w", "first", "0.relax.1", "final.xyz", "", ""],
        ["cached", "w", "second", "0.relax.1", "final.xyz", "first", "0.relax.1"],
        ["used", "v", "third", "0.of_run.1", "in.xyz", "first", "0.relax.1"],
        ["used", "v", "third", "0.of_disk.1", "my.xyz", "", ""],
        ["used", "w", "first", "0.band.1", "start.xyz", "first", "0.relax.1"],
    ]
    sha256 = frame["sha256"].iloc[0]
    assert set(frame["sha256"]) == {sha256}
    assert frame["size"].iloc[0] == 5
    for named in (sha256, sha256.upper(), sha256[:12], str(outside), first.file("relax", "final.xyz")):
        pd.testing.assert_frame_equal(ms.find_file(named, base_path=base), frame)
    assert list(ms.find_file(outside, "v", base_path=base)["role"]) == ["used", "used"]
    result = ms.find_file(first.file("relax", "result.json"), "w", base_path=base)
    assert result[["role", "attempt", "name"]].to_numpy().tolist() == [
        ["made", "0.relax.1", "result.json"],
        ["cached", "0.relax.1", "result.json"],
    ]
    assert ms.find_file("0" * 64, base_path=base).empty


def test_the_data_of_a_task_is_used_by_what_comes_after_it(tmp_path: Path) -> None:
    run = made(tmp_path, "r", gives("a", {"n": 1}), ms.Task("b", "true", dependencies=["a"]))
    frame = ms.find_file(run.file("a", "result.json"), base_path=tmp_path)
    assert ["used", "0.b.1", "inputs.json", "0.a.1"] in frame[
        ["role", "attempt", "name", "of_attempt"]
    ].to_numpy().tolist()


@pytest.mark.parametrize("wrong", ["0" * 11, "no such file", "g" * 64, "0" * 65, ".", "a\0b", 7])
def test_what_is_no_file_is_refused(base: Path, wrong: Any) -> None:
    with pytest.raises(FindError):
        ms.find_file(wrong, base_path=base)


def test_a_pipe_is_no_file(base: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FindError, match="is no file"):
        ms.find_file(tmp_path / "pipe", base_path=base)


# -- runs that cannot be read, and what it costs ------------------------------------------------


def many(base: Path, count: int, size: int) -> list[Path]:
    """Return the directories of so many runs of a workspace, each of so many tasks that are over."""
    run = ms.initialize_run(
        "w", ms.Workflow([ms.Task(f"t{n}", "true") for n in range(size)]), base_path=base, run_id="r000"
    )
    fill(run, ({"energy_eV": -n / 10} for n in range(size)))
    for number in range(1, count):
        place = run.path.with_name(f"r{number:03d}")
        place.mkdir()
        shutil.copyfile(run.path / "state.sqlite", place / "state.sqlite")
    return sorted(run.path.parent.iterdir())


def test_a_run_that_cannot_be_read_is_said_and_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(each_run, "_LOCKED_S", 0.3)
    places = many(tmp_path, 9, 3)

    def alter(place: Path, *statements: str) -> None:
        with closing(sqlite3.connect(place / "state.sqlite")) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    (places[1] / "state.sqlite").write_bytes(b"garbage" * 100)
    (places[2] / "state.sqlite").write_bytes(b"")
    alter(places[3], "CREATE TABLE other (id)")
    alter(places[4], "UPDATE schema_info SET version = 99")
    alter(places[5], "UPDATE attempts SET data = 'no JSON'")
    alter(places[6], "UPDATE tasks SET task_id = x'00ff' WHERE id = 1")
    alter(places[7], "UPDATE attempts SET changes = '{\"arguments\": 7}'")
    lifted = run_of_version_1(tmp_path)
    with closing(sqlite3.connect(places[8] / "state.sqlite")) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        frame = ms.find_tasks("w", where={"energy_eV": ("<=", 0)}, columns=["energy_eV"], base_path=tmp_path)
    unread = {Path(path).name: why for path, why in frame.attrs["unread"].items()}
    for number, why in enumerate(
        [
            "not a readable database",
            "is empty",
            "table other",
            "version 99",
            "malformed JSON",
            "no sense",
            "no sense",
            "locked",
        ],
        1,
    ):
        assert why in unread.pop(f"r{number:03d}")
    assert unread == {}
    assert list(frame["run_id"]) == ["r000"] * 3 + [lifted.name], "also one of version 1"
    assert "8 of 10 runs could not be read" in caplog.text
    assert ms.results("w", base_path=tmp_path).attrs["unread"].keys() == {str(place) for place in places[1:7]}, (
        "who needs no changes"
    )
    with closing(sqlite3.connect(places[8] / "state.sqlite")) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert str(places[8]) in ms.find_file("0" * 64, base_path=tmp_path).attrs["unread"]


def join_threads() -> None:
    """Wait until nobody asks a run any more."""
    for thread in threading.enumerate():
        if thread.name == "matterstack-find":
            thread.join(timeout=60)
            assert not thread.is_alive()


def test_a_run_that_never_answers_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a disk that is away: nothing comes back from there."""
    places = many(tmp_path, 3, 3)
    gate, read_well = threading.Event(), set()

    def read(path: Path) -> database.Files:
        if path.parent == places[1]:
            gate.wait()
        found = look_at(path)
        read_well.add(path.parent)
        if len(read_well) == 2:  # the others have all the time that they need
            monkeypatch.setattr(each_run, "_SILENT_S", 2.0)
        return found

    look_at = database.look_at
    monkeypatch.setattr(database, "look_at", read)
    try:
        frame = ms.find_tasks("w", base_path=tmp_path)
    finally:
        gate.set()
        join_threads()  # else what it reads yet is counted in another test
    assert sorted(set(frame["run_id"])) == ["r000", "r002"]
    assert frame.attrs["unread"] == {str(places[1]): "it has not answered within 2 s"}


def test_one_statement_a_run_and_no_byte_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = many(tmp_path, 20, 200)
    said: Counter[str] = Counter()
    execute = Connection.execute

    def counted(self: Connection, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        said[sql] += 1
        return execute(self, sql, parameters)

    def read_bytes() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])  # what was asked for, from the cache as well

    ms.find_tasks("w", where={"energy_eV": ("<", -19.85)}, columns=["energy_eV"], base_path=tmp_path)  # imports
    monkeypatch.setattr(Connection, "execute", counted)
    before, began = {place: place.stat().st_mtime_ns for place in places}, read_bytes()
    frame = ms.find_tasks("w", where={"energy_eV": ("<", -19.85)}, columns=["energy_eV"], base_path=tmp_path)
    took = read_bytes() - began
    assert len(frame) == 20
    assert sum(said.values()) == 20 * 4, "whether it is rolled back, two of its version, and the question"
    assert max(said.values()) == 20
    total = sum((place / "state.sqlite").stat().st_size for place in places)
    assert took < total * 1.1
    assert {place: place.stat().st_mtime_ns for place in places} == before


def test_to_find_changes_nothing_and_leaves_no_thread(base: Path) -> None:
    def everything() -> dict[str, tuple[int, int]]:
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in base.rglob("*")}

    before = everything()
    ms.find_tasks("*", where={"energy_eV": ("<", 0)}, columns=["cell"], base_path=base)
    ms.results("*", base_path=base)
    ms.find_file("0" * 64, base_path=base)
    assert everything() == before
    join_threads()


@pytest.mark.parametrize(
    ("wanted", "nowhere"),
    [
        ({"where": {"energy_ev": ("<", 0)}}, {"energy_ev": ["energy_eV"]}),
        ({"where": {"strian": 0.1, "energy_eV": ("<", 0)}}, {"strian": ["strain"]}),
        ({"where": {"cell.stes": ("contains", "Li")}}, {"cell.stes": ["cell.sites", "cell.a", "cell"]}),
        ({"where": {("a.bb",): 1}}, {'"a.bb"': ['"a.b"']}),
        ({"where": {"gap_eV": ("exists", False)}}, {"gap_eV": []}),
        ({"columns": ["temprature_K", "energy_eV"]}, {"temprature_K": ["temperature_K"]}),
        ({"where": {"energy_eV": ("<", -1000)}, "columns": ["strain"]}, {}),
        ({"function": "no such", "where": {"energy_eV": 1}}, {}),
        ({"where": {"a.b": 1}}, {"a.b": ['"a.b"']}),
        ({"columns": ["temperature_K"]}, {}),
    ],
    ids=str,
)
def test_what_no_task_has_is_named_with_what_is_near_it(
    base: Path, wanted: dict[str, Any], nowhere: dict[str, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    frame = ms.find_tasks("*", base_path=base, **wanted)
    assert frame.attrs["nowhere"] == nowhere
    said = [record.message for record in caplog.records]
    assert [line.split()[5].rstrip("(") for line in said] == list(nowhere), said
    if "where" in wanted and wanted["where"] and frame.empty:
        where = wanted["where"]
        assert ms.results("*", wanted.get("function"), where=where, base_path=base).attrs["nowhere"] == nowhere


def test_where_there_are_no_tasks_nothing_is_called_misspelt(tmp_path: Path) -> None:
    assert ms.find_tasks("*", where={"x": 1}, base_path=many(tmp_path, 1, 0)[0].parents[3]).attrs["nowhere"] == {}


# -- from a shell -------------------------------------------------------------------------------


def test_find_from_a_shell(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def find(*words: str) -> tuple[int, str, str]:
        code = cli.main(["find", "--base-path", str(base), *words])
        out, err = capsys.readouterr()
        return code, out, err

    where = ["--where", "energy_eV<-4", "--where", "strain exists", "--function", "relax"]
    code, out, _ = find("*", *where, "--tag", "cathode")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["workspace", "run_id", "iteration", "task_id", "status", "function", "tags", "energy_eV", "strain"],
        ["oxides", "r1", "0", "relax_0", "COMPLETED", "relax", "cathode", "-6", "0"],
        ["oxides", "r1", "0", "relax_1", "COMPLETED", "relax", "cathode", "-4.1", "0.1"],
    ]
    document = json.loads(find("oxides", "alloys", "--columns", '"a.b",cell,temperature_K', "--json")[1])
    assert len(document["tasks"]) == 7
    assert document["tasks"][3]["values"] == {'"a.b"': 1, "cell": {"a": 3.9, "sites": ["Li"]}, "temperature_K": 300}
    assert document["tasks"][4]["tags"] == ["anode"]
    assert document["unread"] == document["nowhere"] == {}
    assert json.loads(find("*", "--where", "strian==0", "--json")[1])["nowhere"] == {"strian": ["strain"]}
    file = ms.open_run(base / "workspaces/oxides/runs/r2").file("done", "given.json")
    (row,) = json.loads(find(str(base / "workspaces/oxides"), "--file", str(file), "--json")[1])["files"]
    assert (row["role"], row["attempt"], row["name"]) == ("made", "0.done.1", "result.json"), "which is a copy of it"
    assert "There is no such task." in find("oxides", "--task", "none")[1]
    for wrong, said in {"energy_eV": "is no condition", "x == True": "write true"}.items():
        code, _, err = find("oxides", "--where", wrong)
        assert (code, said in err) == (1, True)
    assert "looked for alone" in find("oxides", "--file", "0" * 64, "--tag", "x")[2]


def test_the_exit_code_of_find_says_that_a_run_could_not_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = many(tmp_path, 2, 2)
    (places[1] / "state.sqlite").write_bytes(b"garbage" * 100)
    assert cli.main(["find", "w", "--base-path", str(tmp_path), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [row["run_id"] for row in document["tasks"]] == ["r000", "r000"]
    assert list(document["unread"]) == [str(places[1])]
