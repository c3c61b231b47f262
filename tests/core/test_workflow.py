"""A workflow is checked whole before anything starts; each error names the culprit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import matterstack as ms
from matterstack.errors import (
    CollidingTaskError,
    CyclicWorkflowError,
    DuplicateTaskError,
    InvalidIdentifierError,
    InvalidTaskError,
    UnknownDependencyError,
    UnknownOperatorError,
    UnsafePathError,
    WorkflowError,
)

IDENTIFIERS = st.from_regex(r"(?![0-9]+\.)[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def started(tmp_path: Path, *tasks: ms.Task) -> None:
    """Try to begin a run; check that nothing of it is left when it is refused."""
    try:
        ms.initialize_run("w", ms.Workflow(tasks), base_path=tmp_path)
    finally:
        assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_cycle_is_shown_as_a_path(tmp_path: Path) -> None:
    tasks = [ms.Task(name, "true", dependencies=[above]) for name, above in [("a", "c"), ("b", "a"), ("c", "b")]]
    with pytest.raises(CyclicWorkflowError) as caught:
        started(tmp_path, *tasks)
    path = re.findall(r"[abc](?= ->)|(?<=-> )[abc]", str(caught.value))
    assert len(set(path)) == 3
    assert path[0] == path[-1]
    with pytest.raises(CyclicWorkflowError, match="a -> a"):
        started(tmp_path, ms.Task("a", "true", dependencies=["a"]))


def test_a_file_of_another_task_makes_an_edge(tmp_path: Path) -> None:
    flow = ms.Workflow(
        [
            ms.Task("a", "true", files={"x": ms.FromTask("b", "y")}),
            ms.Task("b", "true", dependencies=["a"]),
        ]
    )
    assert set(flow.graph.edges) == {("b", "a"), ("a", "b")}
    with pytest.raises(CyclicWorkflowError):
        flow.check()


def test_duplicate_and_colliding_ids() -> None:
    flow = ms.Workflow([ms.Task("relax", "true")])
    with pytest.raises(DuplicateTaskError, match="'relax'"):
        flow.add_task(ms.Task("relax", "true"))
    with pytest.raises(CollidingTaskError, match="'relax' and 'Relax'"):
        flow.add_task(ms.Task("Relax", "true"))
    assert len(flow) == 1


def test_unknown_dependency_and_operator(tmp_path: Path) -> None:
    with pytest.raises(UnknownDependencyError, match=r"'a' depends on 'nobody'"):
        started(tmp_path, ms.Task("a", "true", dependencies=["nobody"]))
    with pytest.raises(UnknownOperatorError, match=r"'a' wants the operator 'slurm'.*it has: local"):
        started(tmp_path, ms.Task("a", "true", operator="slurm"))
    with pytest.raises(InvalidTaskError, match="no command"):
        started(tmp_path, ms.Task("a"))


@given(IDENTIFIERS)
def test_good_ids(text: str) -> None:
    assert ms.Task(text, "true").task_id == text


@given(st.text() | st.integers() | st.none() | st.just("a" * 129))
def test_bad_ids(text: Any) -> None:
    good = r"(?![0-9]+\.)[A-Za-z0-9][A-Za-z0-9._-]*"
    if isinstance(text, str) and len(text) <= 128 and re.fullmatch(good, text, re.ASCII):
        return
    with pytest.raises(InvalidIdentifierError, match="not a valid task id"):
        ms.Task(text, "true")


@pytest.mark.parametrize("text", ["a\n", "", "../a", "a/b", ".a", "-a", "ä", "a b", "a\0", "٣"])
def test_nasty_ids(text: str) -> None:
    with pytest.raises(InvalidIdentifierError):
        ms.Task(text, "true")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", ".", "a//b", "a/./b", "a\\b", "a\nb", "a\0b"])
def test_paths_that_leave_the_directory(path: str) -> None:
    with pytest.raises(UnsafePathError, match="plain relative path"):
        ms.Task("a", "true", files={path: "x"})
    with pytest.raises(WorkflowError):
        ms.Task("a", "true", outputs=[path])
    with pytest.raises(UnsafePathError):
        ms.FromTask("b", path)


@pytest.mark.parametrize(
    "values",
    [
        {"command": ""},
        {"command": []},
        {"command": [""]},
        {"command": ["a\0b"]},
        {"command": [1]},
        {"command": b"true"},
        {"dependencies": [3]},
        {"dependencies": b"relax"},
        {"dependencies": {"relax": 1}},
        {"retries": -1},
        {"retries": True},
        {"retries": 1.5},
        {"env": {"A=B": "x"}},
        {"env": {"A": 1}},
        {"files": {"result.json": "x"}},
        {"files": {"x": "a", "x/y": "b"}},
        {"files": {"x": 3}},
        {"allow_failure": "yes"},
        {"resources": {"walltime_s": 3}},
        {"group": ""},
    ],
)
def test_values_that_make_no_sense(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidTaskError, match="task 'a'"):
        ms.Task("a", **{"command": "true", **values})


@pytest.mark.parametrize(
    "values",
    [{"walltime_s": 0}, {"walltime_s": float("nan")}, {"walltime_s": float("inf")}, {"memory_gib": -1}, {"nodes": 0},
     {"nodes": 1.0}, {"gpus": -1}, {"cpus_per_task": True}, {"walltime_s": "60"}, {"named": "furnace"}],
)  # fmt: skip
def test_resources_that_make_no_sense(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidTaskError, match=next(iter(values))):
        ms.Resources(**values)


@pytest.mark.parametrize("amount", [0, -1, 1.0, True, "1", None, 2**53])
def test_an_amount_of_a_named_resource_is_a_positive_whole_number(amount: Any) -> None:
    with pytest.raises(InvalidTaskError, match="furnace"):
        ms.Resources(named={"furnace": amount})


@pytest.mark.parametrize("name", ["", "Furnace", "1st", "a-b", "a b", "ofen_\u00fc", "x" * 65, "a\n", 3, None])
def test_a_name_of_a_resource_is_a_word_of_small_letters(name: Any) -> None:
    with pytest.raises(InvalidTaskError, match="no name of a resource"):
        ms.Resources(named={name: 1})


def test_named_resources_are_kept_with_their_task_and_no_scheduler_hears_of_them() -> None:
    resources = ms.Resources(named={"vasp_license": 1, "furnace": 2})
    task = ms.Task("a", "true", resources=resources)
    assert task.to_json()["resources"] == {"named": {"furnace": 2, "vasp_license": 1}}
    assert ms.Task.from_json(json.loads(json.dumps(task.to_json()))) == task
    assert resources.scaled(1) == ms.Resources().scaled(1)
    assert ms.Resources(named={}) == ms.Resources()
    assert ms.Task("a", "true", resources=ms.Resources(named={})).to_json().get("resources") in (None, {})


TASKS = st.builds(
    ms.Task,
    task_id=IDENTIFIERS,
    command=st.lists(TEXTS, min_size=1).filter(lambda argv: bool(argv[0])) | TEXTS.filter(str.strip),
    dependencies=st.lists(IDENTIFIERS, max_size=3),
    operator=IDENTIFIERS,
    files=st.dictionaries(
        st.sampled_from(["in.txt", "dir/in.dat", "ü.json"]),
        TEXTS | st.binary(max_size=30) | st.builds(ms.FromTask, IDENTIFIERS, st.just("out/x.xyz")),
    ),
    env=st.dictionaries(st.sampled_from(["A", "B_1"]), TEXTS),
    resources=st.builds(
        ms.Resources,
        nodes=st.integers(1, 9),
        walltime_s=st.none() | st.floats(0.1, 1e6),
        named=st.none() | st.dictionaries(st.sampled_from(["furnace", "gpu_2"]), st.integers(1, 9)),
    ),
    outputs=st.lists(st.sampled_from(["a", "b/c"]), max_size=2),
    retries=st.integers(0, 5),
    allow_failure=st.booleans(),
    allow_dependency_failure=st.booleans(),
    group=st.none() | st.just("gr oup"),
)


@given(TASKS)
def test_a_task_survives_json(task: ms.Task) -> None:
    import json

    assert ms.Task.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_the_graph_is_a_networkx_graph() -> None:
    flow = ms.Workflow([ms.Task("a", "true"), ms.Task("b", "true", dependencies=["a"])])
    assert isinstance(flow.graph, networkx.DiGraph)
    assert list(networkx.topological_sort(flow.graph)) == ["a", "b"]
    assert flow.graph.nodes["b"]["task"] is flow["b"]
    assert issubclass(CyclicWorkflowError, WorkflowError)


def test_a_file_from_outside_is_taken_when_planned(tmp_path: Path) -> None:
    source = tmp_path / "potcar"
    source.write_text("first")
    flow = ms.Workflow(
        [ms.Task("a", "cat POTCAR", files={"POTCAR": source}), ms.Task("b", "true", files={"P": source})]
    )
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    source.write_text("second")
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert (run.path / "operators/local/0.a.1/stdout.txt").read_text() == "first"
    assert len(list((run.path / "files").iterdir())) == 1, "kept once, by its content"
    with pytest.raises(InvalidTaskError, match="not there"):
        ms.initialize_run("w", ms.Workflow([ms.Task("a", "true", files={"x": tmp_path / "no"})]), base_path=tmp_path)
    assert len(ms.runs("w", base_path=tmp_path)) == 1


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"command": "echo \udcfc"}, "command"),
        ({"command": ["echo", "\udcfc"]}, "command"),
        ({"env": {"NAME": "\udcfc"}}, "env['NAME']"),
        ({"env": {"\udcfc": "1"}}, "env"),
        ({"files": {"INCAR": "\udcfc\n"}}, "files['INCAR']"),
        ({"files": {"\udcfc": b""}}, "the file"),
        ({"group": "\udcfc"}, "group"),
        ({"depends": ["\udcfc"]}, "depends"),
        ({"parameters": {"x": "\udcfc"}}, "parameters"),
        ({"operator": "human", "command": None, "instructions": "\udcfc"}, "instructions"),
    ],
)
def test_half_a_character_is_refused_where_it_is_written(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ms.errors.MatterstackError, match=rf"^task 'a': {re.escape(named)}"):
        ms.Task("a", **{"command": "true", **settings})
