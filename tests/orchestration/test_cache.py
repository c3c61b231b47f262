"""Results that are known from before: taken when all that is recorded is equal, and only then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import matterstack as ms
from matterstack.core.cache_keys import Key
from matterstack.errors import InvalidConfigError, InvalidTaskError
from matterstack.functions.source_parts import source_parts

SCRIPT = """\
import sys
import matterstack as ms
import lattices
from helpers import strained

CUTOFF_A = 5.0
LEDGER = {ledger!r}


class Cell:
    def __init__(self, a):
        self.a = a

    def volume(self):
        return self.a ** 3


def relax(a, names=("Cu",)):
    with open(LEDGER, "a") as ledger:
        ledger.write("relax\\n")
    return strained(a) * CUTOFF_A + lattices.FACTOR + Cell(a).volume()


if __name__ == "__main__":
    flow = ms.Workflow()
    flow.add("relax-Cu", relax, 2.0)
    run = ms.initialize_run("w", flow, base_path=sys.argv[1], cache=sys.argv[2])
    run.wait(timeout_s=60)
    said = run.explain_cache("relax-Cu")
    print(repr([run.value("relax-Cu"), run.tasks["cached"].notna().sum().item(), list(said.differs)]))
"""


class Mine:
    """A user's folder of code, as it is edited, and run by a fresh process each time."""

    def __init__(self, base: Path) -> None:
        self.base, self.home, self.ledger = base, base / "mine", base / "ledger"
        self.home.mkdir()
        self.write("script.py", SCRIPT.format(ledger=str(self.ledger)))
        self.write("helpers.py", "def strained(a):\n    return a * 1.01\n")
        self.write("lattices.py", "FACTOR = 1.0\n")

    def write(self, name: str, text: str) -> None:
        (self.home / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.home / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def run(self, **env: str) -> Any:
        command = [sys.executable, "script.py", str(self.base), str(self.base / "cache")]
        done = subprocess.run(
            command, cwd=self.home, capture_output=True, text=True, timeout=100, env={**os.environ, **env}
        )
        assert done.returncode == 0, done.stderr
        import ast

        return ast.literal_eval(done.stdout.splitlines()[-1])

    @property
    def ran(self) -> int:
        return len(self.ledger.read_text().splitlines())


@pytest.fixture
def mine(tmp_path: Path) -> Mine:
    return Mine(tmp_path)


def test_the_same_is_not_computed_twice_and_the_run_looks_as_if_it_had_been(mine: Mine) -> None:
    first = mine.run()
    assert mine.run() == [first[0], 1, []]
    assert mine.ran == 1


@pytest.mark.parametrize(
    ("name", "old", "new", "differs"),
    [
        ("script.py", "return strained(a)", "return 2 * strained(a)", ["function relax changed"]),
        ("helpers.py", "1.01", "1.02", ["helper strained changed"]),
        ("script.py", "CUTOFF_A = 5.0", "CUTOFF_A = 6.0", ["constant CUTOFF_A changed"]),
        ("lattices.py", "1.0", "2.0", ["module lattices: constant FACTOR changed"]),
        ("script.py", "self.a ** 3", "self.a ** 2", ["class Cell changed"]),
        ("script.py", "relax, 2.0)", "relax, 2)", ["argument a 2.0 -> 2"]),
    ],
    ids=["body", "helper", "global", "module", "class", "argument"],
)
def test_what_parsl_redun_joblib_and_executorlib_gave_stale_is_computed_anew(
    mine: Mine, name: str, old: str, new: str, differs: list[str]
) -> None:
    before = mine.run()[0]
    mine.edit(name, old, new)
    after, cached, said = mine.run()
    assert (mine.ran, cached, said) == (2, 0, differs)
    assert after != before or old == "relax, 2.0)"
    mine.edit(name, new, old)
    assert mine.run() == [before, 1, []], "and what was known stays known"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("script.py", "    return strained(a)", "    # how it was\n\n    return strained(\n        a)"),
        ("helpers.py", "def strained(a):\n", "# by hand\ndef strained( a ):\n"),
        ("script.py", "import sys\n", "import sys\nUNUSED = 3\n"),
    ],
    ids=["comment", "layout", "unused"],
)
def test_comments_layout_and_what_is_not_reached_do_not_count(mine: Mine, name: str, old: str, new: str) -> None:
    mine.run()
    mine.edit(name, old, new)
    assert mine.run()[1] == 1
    assert mine.ran == 1


def package(base: Path, version: str, text: str, editable: bool) -> dict[str, str]:
    """Install a package where a folder of PYTHONPATH is; return the variables."""
    site = base / "site"
    site.mkdir(exist_ok=True)
    for old in site.glob("*.dist-info"):
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    (site / "oddpkg").mkdir(exist_ok=True)
    (site / "oddpkg/__init__.py").write_text(text)
    info = site / f"oddpkg-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: oddpkg\nVersion: {version}\n")
    (info / "RECORD").write_text("oddpkg/__init__.py,,\n")
    (info / "top_level.txt").write_text("oddpkg\n")
    if editable:
        (info / "direct_url.json").write_text(json.dumps({"url": site.as_uri(), "dir_info": {"editable": True}}))
    return {"PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"}


def test_versions_count_and_of_what_is_installed_as_it_is_edited_the_content(tmp_path: Path) -> None:
    from matterstack.operators.interpreters import Answer, ask

    def parts(env: dict[str, str]) -> str:
        answer = ask([sys.executable], ["oddpkg"], env)
        assert isinstance(answer, Answer)
        assert answer.parts["python"] == f"CPython 3.{sys.version_info.minor}"
        return answer.parts["oddpkg"]

    env = package(tmp_path, "1.0", "A = 1\n", editable=False)
    assert parts(env) == "1.0"
    assert parts(package(tmp_path, "1.1", "A = 1\n", editable=False)) == "1.1", "installed while this process lives"
    env = package(tmp_path, "1.1", "A = 1\n", editable=True)
    one = parts(env)
    assert one.startswith("1.1 sha256:")
    assert parts(env) == one
    (tmp_path / "site/oddpkg/__init__.py").write_text("A = 22\n")
    assert parts(env) not in (one, "1.1")
    for file in (tmp_path / "site/oddpkg-1.1.dist-info").iterdir():
        file.unlink()
    (tmp_path / "site/oddpkg-1.1.dist-info").rmdir()
    assert parts(env).startswith("sha256:"), "what no installation knows counts by its content"
    assert isinstance(ask(["/no/such/python"], [], {}), str)


# -- in one process -----------------------------------------------------------------------------


def noted(x: float, ledger: str) -> dict[str, float]:
    with open(ledger, "a") as file:
        file.write(f"{x}\n")
    return {"double": 2 * x}


def plus(said: dict[str, float]) -> float:
    return said["double"] + 1


class Lab:
    def __init__(self, base: Path) -> None:
        self.base, self.ledger, self.cache = base, base / "ledger", ms.Cache(base / "cache")
        self.ledger.touch()

    def run(self, *tasks: ms.Task, build: Callable[[ms.Workflow], object] = lambda flow: None, **given: Any) -> ms.Run:
        flow = ms.Workflow(tasks)
        build(flow)
        run = ms.initialize_run("w", flow, base_path=self.base, **{"cache": self.cache, **given})
        run.wait(timeout_s=60)
        return run

    def command(self, task_id: str = "c", extra: str = "", **options: Any) -> ms.Task:
        text = f"echo run >>{self.ledger}; echo '{{\"n\": 3}}' >result.json; printf out >out.txt{extra}"
        return ms.Task(task_id, text, **{"outputs": ["out.txt"], "cache": True, **options})

    @property
    def ran(self) -> int:
        return len(self.ledger.read_text().splitlines())


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_cached_attempt_is_whole_and_says_from_where(lab: Lab) -> None:
    def build(flow: ms.Workflow) -> None:
        said = flow.add("first", noted, 1.0, str(lab.ledger))
        flow.add("second", plus, said)

    kept = lab.run(lab.command(), build=build)
    again = lab.run(lab.command(), build=build)
    assert lab.ran == 2
    assert set(again.tasks["status"]) == {"COMPLETED"}
    assert again.tasks.loc["0.first", "cached"] == f"{kept.run_id} 0.first.1"
    assert again.attempts.loc["0.second.1", "cached"] == f"{kept.run_id} 0.second.1"
    assert again.tasks.loc["0.first", "reason"] == f"cached: 0.first.1 of {kept.run_id}"
    assert again.value("second") == 3.0
    assert again.results.loc["0.c", "n"] == 3
    assert again.file("c", "out.txt").read_text() == "out"
    assert (again.task_directory("second") / "args.json").exists(), "its inputs lie there as ever"
    made = again.made_from("second")
    assert made.cached is not None
    assert (made.cached["run"], made.cached["attempt"]) == (kept.run_id, "0.second.1")
    assert [one.sha256 for one in made.outputs] == [one.sha256 for one in kept.made_from("second").outputs]
    assert made.links[0].of_attempt == "0.first.1"
    assert [event for event in again.events["event"] if event == "recalled"] == ["recalled"] * 3
    assert "submitted" not in set(again.events["event"]), "no operator was asked"
    assert again.store.check() == []
    assert list(kept.tasks["cached"].notna()) == [False] * 3
    view = again.dag()
    view.selected = "0.first"
    assert f"cached: 0.first.1 of {kept.run_id}" in view.panel
    said = again.explain_cache("first")
    assert said.hit
    assert repr(said) == f"it was taken from 0.first.1 of {kept.run_id}"


def test_a_step_completes_what_is_known_at_once(lab: Lab) -> None:
    lab.run(lab.command())
    run = ms.initialize_run("w", ms.Workflow([lab.command()]), base_path=lab.base, cache=lab.cache)
    report = run.step()
    assert (report.submitted, report.completed, report.status) == (0, 1, ms.RunStatus.COMPLETED)


def test_early_cut_off_by_the_content_of_what_comes_from_other_tasks(lab: Lab) -> None:
    """What made the same value from something else changes nothing for what comes after it."""

    def of(x: float, task_id: str) -> Callable[[ms.Workflow], object]:
        return lambda flow: flow.add("after", noted, flow.add(task_id, abs_of, x), str(lab.ledger))

    lab.run(build=of(-1.0, "first"))
    run = lab.run(build=of(1.0, "other-name"))
    assert list(run.tasks["cached"].notna()) == [False, True]
    run = lab.run(build=of(2.0, "first"))
    assert list(run.tasks["cached"].notna()) == [False, False]
    assert lab.ran == 2


def abs_of(x: float) -> float:
    return abs(x)


def test_who_is_cached_is_said_by_the_task_else_by_the_run(lab: Lab) -> None:
    def build(flow: ms.Workflow) -> None:
        flow.add("yes", ms.task(cache=True)(noted), 1.0, str(lab.ledger))
        flow.add("no", ms.task(cache=False)(noted), 2.0, str(lab.ledger))
        flow.add("plain", noted, 3.0, str(lab.ledger))
        flow.add("read", ms.task(cache="read")(noted), 4.0, str(lab.ledger))
        flow.add_task(lab.command("silent", cache=None))

    lab.run(build=build, cache=None)
    run = lab.run(build=build, cache=None)
    assert list(run.tasks["task_id"][run.tasks["cached"].notna()]) == ["yes"], "in the workspace's own cache"
    assert (lab.base / "workspaces/w/cache/entries").is_dir()
    lab.run(build=build)
    run = lab.run(build=build)
    assert list(run.tasks["task_id"][run.tasks["cached"].notna()]) == ["yes", "plain"]
    assert "cache=True of the task does" in repr(run.explain_cache("silent"))
    lab.run(build=lambda flow: flow.add("read", noted, 4.0, str(lab.ledger)))
    run = lab.run(build=build)
    assert list(run.tasks["task_id"][run.tasks["cached"].notna()]) == ["yes", "plain", "read"]
    assert ms.open_run(run.path)._session.cache.path == lab.cache.path


@pytest.mark.parametrize(
    "change",
    [
        {"extra": "; true"}, {"env": {"LEVEL": "2"}}, {"env": {"SECRET": "env:OTHER"}}, {"files": {"in.txt": "b"}},
        {"outputs": ["out.txt", "result.json"]}, {"parameters": {"k": 1}}, {"depends": ["seed 8"]},
        {"dependencies": ["before"]},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_all_that_a_command_says_counts(lab: Lab, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "one")
    monkeypatch.setenv("OTHER", "one")
    said: dict[str, Any] = {"env": {"SECRET": "env:THE_KEY"}, "files": {"in.txt": "a"}, "depends": ["seed 7"]}
    before = ms.Task("before", "true")
    lab.run(before, lab.command(**said))
    monkeypatch.setenv("THE_KEY", "two")
    assert lab.run(before, lab.command(**said)).tasks["cached"].notna().sum() == 1, "of a secret the name alone"
    assert lab.run(before, lab.command("other", **said, retries=2, group="g")).tasks["cached"].notna().sum() == 1
    run = lab.run(before, lab.command(**{**said, **change}))
    assert run.tasks["cached"].notna().sum() == 0
    assert len(run.explain_cache("c").differs) >= 1
    assert "two" not in "".join(path.read_text() for path in lab.base.glob("cache/entries/*/*.json"))


def test_a_file_that_it_depends_on_counts_by_its_content(lab: Lab) -> None:
    potcar = lab.base / "POTCAR"
    potcar.write_text("Cu 1")
    task = lab.command(depends=potcar)
    lab.run(task)
    os.utime(potcar, (1, 1))
    assert lab.run(task).tasks["cached"].notna().all()
    potcar.write_text("Cu 2")
    run = lab.run(task)
    assert not run.tasks["cached"].notna().any()
    assert run.explain_cache("c").differs == [f"{potcar} changed"]
    # One that is changed while the command runs: nobody knows which of the two it used.
    changing = lab.command("late", extra=f"; printf x >>{potcar}", depends=[potcar])
    lab.run(changing)
    potcar.write_text("Cu 2")
    assert not lab.run(changing).tasks["cached"].notna().any()
    for bad in (lab.base / "none", lab.base):
        with pytest.raises(InvalidTaskError, match="is no file"):
            lab.run(lab.command(depends=bad))
    for wrong in (3, [3], [""]):
        with pytest.raises(InvalidTaskError, match="depends"):
            lab.command(depends=wrong)
    with pytest.raises(InvalidTaskError, match="cache must be"):
        lab.command(cache="write")


def fail_after(ledger: str) -> None:
    with open(ledger, "a") as file:
        file.write("tried\n")
    raise RuntimeError


def test_failures_and_answers_of_people_are_never_kept(lab: Lab) -> None:
    asked = ms.Task("ask", operator="human", instructions="Go on?", schema=ms.Approve(), cache=True)
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator()}

    def build(flow: ms.Workflow) -> None:
        flow.add("bad", ms.task(allow_failure=True)(fail_after), str(lab.ledger))

    for _ in range(2):
        run = lab.run(asked, build=build, operators=operators)
        run.respond("ask", {"decision": "approve"}).wait(timeout_s=60)
        assert run.status is ms.RunStatus.COMPLETED
    assert lab.ran == 2
    assert lab.cache.entries.empty
    assert "nothing but commands and functions" in repr(run.explain_cache("ask"))


def test_what_a_person_retries_is_computed_anew_and_takes_the_place_of_what_was_known(lab: Lab) -> None:
    lab.run(lab.command())
    run = lab.run(lab.command())
    assert (lab.ran, list(run.attempts["cached"].notna())) == (1, [True])
    run = lab.run(lab.command(), ms.Task("bad", "exit 1", dependencies=["c"]))
    run.retry("c").wait(timeout_s=60)
    assert lab.ran == 2
    assert list(run.attempts["cached"].notna()) == [True, False, False, False]
    assert list(lab.cache.entries["attempt"]) == ["0.c.2"]


@pytest.mark.parametrize("shown", [False, True])
def test_a_result_without_a_file_that_another_task_takes_is_computed_anew(lab: Lab, shown: bool) -> None:
    source = ms.FromTask("c", "noise")
    if shown:
        behind = ms.Task("behind", operator="human", instructions="look", show=[source])
    else:
        behind = ms.Task("behind", "cat taken", files={"taken": source})
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator()}
    for count in (1, 2):
        run = lab.run(lab.command(extra="; echo x >noise"), behind, operators=operators)
        assert lab.ran == count
        assert run.tasks.loc["0.behind", "status"] == ("SUBMITTED" if shown else "COMPLETED")
        assert (run.task_directory("behind") / ("show/c/noise" if shown else "taken")).exists()
    assert lab.run(lab.command(extra="; echo x >noise")).tasks["cached"].notna().all(), "here nobody takes it"
    assert "other tasks take noise of it, which is kept where outputs= names it" in repr(run.explain_cache("c"))


def test_without_a_record_of_what_it_was_made_from_it_is_cached_as_well(lab: Lab) -> None:
    for wanted in (0, 1):
        run = lab.run(build=lambda flow: flow.add("k", noted, 1.0, str(lab.ledger)), config={"made_from": False})
        assert run.tasks["cached"].notna().sum() == wanted


def test_what_is_too_large_is_not_read_and_says_so(lab: Lab) -> None:
    task = ms.Task("huge", "truncate -s 2200M huge.bin", outputs=["huge.bin"], cache=True)
    run = lab.run(task)
    assert "is not kept, since it left 2306867200 bytes, more than 2 GiB" in repr(run.explain_cache("huge"))
    assert lab.cache.entries.empty
    assert list(run.made_from("huge").not_hashed) == ["huge.bin"]


def test_a_run_that_was_taken_out_of_its_workspace_writes_nowhere_else(lab: Lab) -> None:
    run = ms.initialize_run("w", ms.Workflow([lab.command()]), base_path=lab.base, run_id="r")
    (lab.base / "elsewhere/far").mkdir(parents=True)
    moved = run.path.rename(lab.base / "elsewhere/far/r")
    assert ms.open_run(moved).wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert (moved / "cache/entries").is_dir()
    assert [path.name for path in (lab.base / "elsewhere").iterdir()] == ["far"]
    assert [path.name for path in (lab.base / "elsewhere/far").iterdir()] == ["r"]


def test_explain_before_anything_runs(lab: Lab) -> None:
    def build(x: float) -> ms.Workflow:
        flow = ms.Workflow()
        flow.add("second", plus, flow.add("first", noted, x, str(lab.ledger)))
        return flow

    def planned(x: float) -> ms.Run:
        return ms.initialize_run("w", build(x), base_path=lab.base, cache=lab.cache)

    assert "nothing of noted is" in repr(planned(1.0).explain_cache("first"))
    kept = planned(1.0)
    kept.wait(timeout_s=60)
    run = planned(1.0)
    before = sorted(path for path in run.path.rglob("*"))
    said = run.explain_cache("first")
    assert (said.hit, said.run, said.attempt) == (True, kept.run_id, "0.first.1")
    assert repr(planned(2.0).explain_cache("first")).endswith("it differs:\n- argument x 1.0 -> 2.0")
    assert "its inputs are not there yet" in repr(run.explain_cache("second"))
    assert sorted(path for path in run.path.rglob("*")) == before, "to look writes nothing"


def test_explain_of_a_task_that_shall_run_again_is_of_what_its_next_attempt_will_be_made_with(lab: Lab) -> None:
    known = lab.run(lab.command(files={"INCAR": "fine\n"}, extra="; grep -q fine INCAR"))
    run = lab.run(lab.command(files={"INCAR": "coarse\n"}, extra="; grep -q fine INCAR"))
    assert "file INCAR changed" in repr(run.explain_cache("c"))
    run.retry("c", files={"INCAR": b"fine\n"})
    assert repr(run.explain_cache("c")) == f"it would be taken from 0.c.1 of {known.run_id}"
    run.wait(timeout_s=60)
    assert repr(run.explain_cache("c")) == f"it was taken from 0.c.1 of {known.run_id}"
    assert lab.ran == 2

    run = lab.run(lab.command(files={"INCAR": "fine\n"}, extra="; grep -q fine INCAR"), ms.Task("bad", "exit 1"))
    run.retry("c")
    said = run.explain_cache("c")
    assert not said.hit
    assert repr(said).endswith("is not taken: somebody asked for the task once more, and it was completed")


class Again(ms.Campaign):
    def __init__(self, command: str) -> None:
        self.command = command

    def initial_state(self) -> int:
        return 0

    def plan(self, state: int) -> ms.Workflow | None:
        return None if state == 2 else ms.Workflow([ms.Task("c", self.command, cache=True, parameters={"n": state})])

    def analyze(self, state: int, results: Any) -> int:
        return state + 1


def test_explain_of_an_attempt_that_was_packed(lab: Lab) -> None:
    run = ms.initialize_run("w", Again(f"echo run >>{lab.ledger}"), base_path=lab.base)
    run.wait(timeout_s=60)
    before = repr(run.explain_cache("c", iteration=0))
    assert "it differs:\n- parameter all changed" in before
    assert len(run.pack()) == 1
    assert repr(run.explain_cache("c", iteration=0)) == before


# -- operators that cannot know -----------------------------------------------------------------


def test_where_nobody_knows_the_environment_a_name_stands_for_it(lab: Lab) -> None:
    def build(flow: ms.Workflow) -> None:
        flow.add("k", ms.task(operator="manual")(abs_of), -2.0)

    def run(environment: str | None) -> ms.Run:
        flow = ms.Workflow()
        build(flow)
        operators = {"manual": ms.ManualHPCOperator(environment=environment, python=sys.executable)}
        made = ms.initialize_run("w", flow, base_path=lab.base, cache=lab.cache, operators=operators)
        made.step()
        if made.tasks["cached"].isna().all():
            subprocess.run(["sh", "submit.sh"], cwd=made.path / "operators/manual/0.k.1", check=True)
        assert made.wait(timeout_s=30) is ms.RunStatus.COMPLETED
        return made

    nameless = run(None)
    assert "environment='chgnet-0.4'" in repr(nameless.explain_cache("k"))
    assert lab.cache.entries.empty
    run("chgnet-0.4")
    again = run("chgnet-0.4")
    assert again.tasks["cached"].notna().all()
    assert again.value("k") == 2.0
    assert again.file("k", "value.json").parent.name == "output"
    other = run("chgnet-0.5")
    assert other.explain_cache("k").differs == ["environment chgnet-0.4 -> chgnet-0.5"]
    assert ms.open_run(other.path).operators["manual"].environment == "chgnet-0.5"  # type: ignore[attr-defined]
    with pytest.raises(InvalidConfigError, match="environment must be a name"):
        ms.ManualHPCOperator(environment="")


def test_jobs_on_a_shared_file_system_have_the_python_that_lies_here_by_its_path(tmp_path: Path) -> None:
    flow = ms.Workflow()
    flow.add("k", abs_of, -2.0)
    task = flow["k"]
    here = ms.SlurmOperator().environment_of(task)
    assert (list(here.python or ()), here.elsewhere) == ([sys.executable], True)
    assert ms.SlurmOperator(python="/opt/env/bin/python -E").environment_of(task).python == [
        "/opt/env/bin/python",
        "-E",
    ]
    for unknown in (ms.SlurmOperator(python="python3"), ms.SlurmOperator(host="login"), ms.DaskOperator("tcp://x:1")):
        known = unknown.environment_of(task)
        assert (known.name, known.python) == (None, None)
        assert "environment=" in known.why_not
    assert ms.SlurmOperator(host="login", environment="e").environment_of(task).name == "e"


# -- keeping house ------------------------------------------------------------------------------


def test_entries_are_listed_forgotten_and_pruned(lab: Lab) -> None:
    def build(flow: ms.Workflow) -> None:
        flow.map(noted, [1.0, 2.0, 3.0], str(lab.ledger))

    run = lab.run(lab.command(), build=build)
    entries = ms.Cache(lab.base / "cache").entries
    assert sorted(entries["name"]) == ["echo", "noted", "noted", "noted"]
    assert set(entries["run"]) == {run.run_id}
    assert (entries["size_bytes"] > 0).all()
    assert str(entries["at"].dtype).startswith("datetime64")
    assert lab.cache.forget(noted) == 3
    assert lab.cache.forget("noted") == 0
    assert lab.cache.forget(str(lab.cache.entries["key"][0])) == 1
    assert lab.cache.entries.empty
    lab.run(lab.command(), build=build)
    old = time.time() - 10 * 86400
    for path in lab.base.glob("cache/entries/*/*.json"):
        os.utime(path, (old, old))
    lab.run(lab.command())  # it is used again
    assert lab.cache.prune(older_than_days=5) == 3
    assert list(lab.cache.entries["name"]) == ["echo"]
    for path in lab.base.glob("cache/files/*/*"):
        os.utime(path, (old, old))
    assert lab.cache.prune(max_gib=0) == 1
    assert [path for path in lab.base.glob("cache/*/*/*") if path.is_file()] == []
    with pytest.raises(InvalidConfigError, match="max_gib"):
        lab.cache.prune(max_gib=-1)


@pytest.mark.parametrize("path", [None, 3, "", "a\0b"])
def test_a_cache_is_a_directory(path: Any) -> None:
    with pytest.raises(InvalidConfigError, match="a cache is a directory"):
        ms.Cache(path)


def test_parts_of_a_program_have_the_names_that_a_person_knows() -> None:
    program = b'"""Doc."""\nimport os\nfrom a import b\nX = 1\nX += 1\nclass C: pass\ndef f(): pass\ndef g(): pass\n'
    assert list(source_parts({"args/x.npy": b"1", "modules/m/n.py": b"Y = 2", "task.py": program}, "f")) == [
        "statements", "imports", "constant X", "class C", "function f", "helper g", "order of task.py",
        "data args/x.npy", "module m.n: constant Y", "order of m.n",
    ]  # fmt: skip
    assert Key("f", {"a": {"b": "c"}}).digest != Key("g", {"a": {"b": "c"}}).digest
