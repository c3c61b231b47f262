"""What is looked for over all runs: by tags, by what tasks gave, by files."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from older import run_of_version_1

import matterstack as ms
from matterstack.core.tags import tags_of
from matterstack.errors import InvalidConfigError, InvalidTaskError, RunExistsError, RunLockedError, UnknownTaskError


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


@given(st.lists(st.text(min_size=1), max_size=40))
def test_a_tag_is_kept_in_one_form(words: list[str]) -> None:
    try:
        tags = tags_of(words, lambda rule, value: ValueError(rule))
    except ValueError:
        return
    assert tags_of(list(tags), lambda rule, value: ValueError(rule)) == tags
    assert tuple(", ".join(tags).split(", ")) == (tags or ("",))


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
