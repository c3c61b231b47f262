"""What a result was made from, and what was made with it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import matterstack as ms
from matterstack.core.made import MOST_HASHED_BYTES, told_by_call
from matterstack.errors import InvalidConfigError
from matterstack.operators import made as made_module


@ms.task
def double(x: float) -> float:
    import networkx

    assert networkx
    return 2 * x


def fail(x: float) -> float:
    raise ValueError(x)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def finished(base: Path, flow: ms.Workflow, **options: object) -> ms.Run:
    run = ms.initialize_run("w", flow, base_path=base, **options)  # type: ignore[arg-type]
    run.wait(timeout_s=60)
    return run


def chain() -> ms.Workflow:
    flow = ms.Workflow()
    first = flow.add("first", double, 1.5)
    flow.add("second", double, first)
    flow.add_task(ms.Task("write", "printf one >out.txt; echo '{\"n\": 1}' >result.json", outputs=["out.txt"]))
    taken = {"in.txt": ms.FromTask("write", "out.txt"), "own.txt": "mine\n"}
    return flow.add_task(ms.Task("read", "cat in.txt", files=taken, dependencies=["second"]))


def test_each_attempt_says_what_it_took_ran_in_and_left(tmp_path: Path) -> None:
    run = finished(tmp_path, chain())
    second = run.made_from("second")
    assert second.environment["host"] == platform.node()
    assert second.environment["python"] == platform.python_version()
    assert second.environment["packages"] == {"networkx": __import__("networkx").__version__}
    value = sha256(run.file("first", "value.json"))
    assert [(one.takes, one.of_attempt, one.path, one.sha256) for one in second.links] == [
        ("values/first", "0.first.1", "value.json", value)
    ]
    left = {one.name: (one.sha256, one.size) for one in second.outputs}
    assert left["value.json"][0] == sha256(run.file("second", "value.json"))
    assert left["result.json"] == (sha256(run.file("second", "result.json")), 14)

    read = run.made_from("read")
    assert [(one.takes, one.of_attempt, one.sha256) for one in read.links] == [
        ("in.txt", "0.write.1", hashlib.sha256(b"one").hexdigest()),
        ("inputs.json", "0.second.1", sha256(run.file("second", "result.json"))),
    ]
    assert "python" not in read.environment, "no Python ran it"
    assert list(read.table["of_attempt"]) == ["0.write.1", "0.second.1", "0.first.1"]
    assert [one.attempt for one in run.used_by("first").links] == ["0.second.1"]
    assert list(run.used_by("first").table["attempt"]) == ["0.second.1", "0.read.1"]
    assert "is used by nothing" in repr(run.used_by("read"))
    assert "takes: in.txt: out.txt of 0.write.1" in repr(read)
    assert run.store.query("SELECT count(*) FROM environments") == [(2,)], "thousands of attempts share a row"
    assert run.store.check() == []


def test_links_lead_across_iterations_and_runs(tmp_path: Path) -> None:
    class Twice(ms.Campaign):
        def initial_state(self) -> int:
            return 0

        def plan(self, state: int) -> ms.Workflow | None:
            flow = ms.Workflow()
            if state == 0:
                flow.add("a", double, 1.0)
                return flow
            if state == 1:
                flow.add("b", double, flow.reference("a", iteration=0))
                return flow
            return None

        def analyze(self, state: int, results: object) -> int:
            return state + 1

    run = ms.initialize_run("w", Twice(), base_path=tmp_path, run_id="one")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    flow = ms.Workflow()
    flow.add("c", double, flow.reference("b", run=run))
    flow.add_task(ms.Task("d", "cat v.json", files={"v.json": ms.FromTask("b", "value.json", run=run)}))
    other = finished(tmp_path, flow, run_id="two")
    assert [(one.of_run, one.of_attempt) for one in other.made_from("d").links] == [("one", "1.b.1")]
    table = other.made_from("c").table
    assert list(table["of_run"] + " " + table["of_attempt"]) == ["one 1.b.1", "one 0.a.1"]
    assert table["sha256"][0] == sha256(run.file("b", "value.json"))
    down = run.used_by("a").table
    assert list(down["run"] + " " + down["attempt"]) == ["one 1.b.1", "two 0.c.1", "two 0.d.1"]
    run.path.rename(tmp_path / "elsewhere")
    assert list(ms.open_run(other.path).made_from("c").table["of_attempt"]) == ["1.b.1"], "what is not here ends there"


def test_a_retried_task_is_told_from_what_took_its_earlier_attempt(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("a", "echo $MATTERSTACK_ATTEMPT >out.txt", outputs=["out.txt"])])
    flow.add_task(ms.Task("b", "grep 2 in.txt", files={"in.txt": ms.FromTask("a", "out.txt")}, dependencies=["a"]))
    flow.add_task(ms.Task("after", "grep -q '\"status\"' inputs.json", dependencies=["a"], allow_failure=True))
    run = finished(tmp_path, flow)
    run.retry("a").wait(timeout_s=60)
    assert [one.of_attempt for one in run.made_from("b", attempt=1).links] == ["0.a.1"]
    assert [one.of_attempt for one in run.made_from("b", attempt=2).links] == ["0.a.2"]
    assert [one.attempt for one in run.used_by("a", attempt=1).links] == ["0.b.1", "0.after.1"]
    assert [one.attempt for one in run.used_by("a", attempt=2).links] == ["0.b.2", "0.after.2"]


def test_what_is_too_large_is_not_hashed_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_module, "MOST_HASHED_BYTES", 10)
    command = "printf 123456 >a; printf 123456 >b; printf 123 >c"
    run = finished(tmp_path, ms.Workflow([ms.Task("t", command, outputs=["a", "b", "c"])]))
    made = run.made_from("t")
    assert [one.name for one in made.outputs] == ["a", "c"]
    assert list(made.not_hashed) == ["b"]
    assert MOST_HASHED_BYTES > 10


def test_a_failed_attempt_says_what_it_ran_in(tmp_path: Path) -> None:
    flow = ms.Workflow()
    flow.add("bad", fail, 1.0)
    made = finished(tmp_path, flow).made_from("bad")
    assert made.environment["python"] == platform.python_version()
    assert list(made.outputs) == []
    command = ms.Task("left", "echo half > half.txt; exit 1", outputs=["half.txt"], allow_failure=True)
    assert list(finished(tmp_path / "other", ms.Workflow([command])).made_from("left").outputs) == []


def test_it_can_be_left_out(tmp_path: Path) -> None:
    run = finished(tmp_path, chain(), config={"made_from": False})
    assert run.status is ms.RunStatus.COMPLETED
    for table in ("environments", "inputs", "outputs"):
        assert run.store.query(f"SELECT count(*) FROM {table}") == [(0,)]
    assert run.store.code() is None
    assert ms.open_run(run.path)._session.settings.made_from is False
    with pytest.raises(InvalidConfigError, match="made_from must be True or False"):
        finished(tmp_path, chain(), config={"made_from": 1})


@pytest.mark.parametrize(
    "said",
    [
        None, [], "x", {"files": 3}, {"files": {"value.json": ["z" * 64, 1]}},
        {"files": {"value.json": ["a" * 64, -1]}}, {"files": {"value.json": ["a" * 64, True]}},
        {"host": 7, "packages": ["numpy"]},
    ],
)  # fmt: skip
def test_a_record_of_any_content_does_no_harm(said: object) -> None:
    made = told_by_call(said)
    assert list(made.outputs) == []
    assert made.environment in (None, "{}")


def test_the_commit_of_the_users_code_is_known_once_a_run(tmp_path: Path) -> None:
    home = tmp_path / "mine"
    home.mkdir()
    (home / "helper.py").write_text("def inverse(x):\n    return 1 / x\n")
    text = "import sys, matterstack as ms, helper\nflow = ms.Workflow()\nflow.add('t', helper.inverse, 2.0)\n"
    text += "run = ms.initialize_run('w', flow, base_path=sys.argv[1], run_id=sys.argv[2])\nprint(run.store.code())\n"
    (home / "script.py").write_text(text)
    git = ["git", "-C", str(home), "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "begin"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()

    def told(run_id: str) -> object:
        command = [sys.executable, str(home / "script.py"), str(tmp_path), run_id]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert told("clean") == {"mine": {"commit": commit, "dirty": False}}
    (home / "helper.py").write_text("def inverse(x):\n    return 1.0 / x\n")
    assert told("dirty") == {"mine": {"commit": commit, "dirty": True}}
    run = ms.open_run(tmp_path / "workspaces/w/runs/dirty")
    run.wait(timeout_s=60)
    assert f"code: mine {commit[:12]}, changed since" in repr(run.made_from("t"))


def test_a_killed_driver_leaves_no_attempt_without_its_inputs(tmp_path: Path) -> None:
    """They are written with the intent to submit, so that whoever finds the attempt has them."""
    program = "import sys, matterstack as ms\nms.open_run(sys.argv[1]).wait(timeout_s=60)\n"
    flow = ms.Workflow([ms.Task("a", "echo 1 >out.txt", outputs=["out.txt"])])
    flow.add_task(ms.Task("b", "cat in.txt", files={"in.txt": ms.FromTask("a", "out.txt")}))
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    env = {**os.environ, "MATTERSTACK_CRASH": "kill:submit.submitted:2"}
    assert subprocess.run([sys.executable, "-c", program, str(run.path)], env=env).returncode == -9
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert [one.of_attempt for one in run.made_from("b").links] == ["0.a.1"]
