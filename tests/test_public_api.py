"""What a user types, and what it shows."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import matterstack as ms
from matterstack import errors
from matterstack.core.attempts import Attempt, Observation, Seen, Submitted
from matterstack.operators.base import Operator

HOSTILE = "</script><img src=x onerror=alert(1)>"


class Queue(Operator):
    """A queue that says the same of all that is in it."""

    says = Observation(Seen.QUEUED, reason="the queue says PENDING")

    def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted]:
        return {attempt.token: Submitted() for attempt in attempts}

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        return {attempt.token: self.says for attempt in attempts}

    def find(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted]:
        return {}

    def cancel(self, attempts: Sequence[Attempt]) -> list[str]:
        return []


@pytest.fixture
def run(tmp_path: Path) -> ms.Run:
    flow = ms.Workflow(
        [
            ms.Task("a", """echo '{"energy_eV": -1.5, "attempt": 7, "cell": [1, 2]}' > result.json"""),
            ms.Task("b", "echo '[1]' > result.json", dependencies=["a"]),
            ms.Task("bad", f"echo '{HOSTILE}' >&2; exit 1"),
            ms.Task("never", "true", dependencies=["bad"]),
        ]
    )
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": ms.LocalOperator(max_active=1)})
    assert run.wait(timeout_s=120) is ms.RunStatus.FAILED
    return run


def test_every_exported_name_is_there_and_documented() -> None:
    assert ms.__version__ == "0.2.1"
    assert set(ms._HOMES) | {"__version__"} == set(ms.__all__) == set(dir(ms))
    for name in ms.__all__:
        if name != "__version__":
            assert inspect.getdoc(getattr(ms, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ms.nonsense


def test_importing_is_cheap() -> None:
    program = "import sys, matterstack; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"pandas", "networkx", "ipywidgets", "jsonschema", "sqlite3", "filelock", "numpy", "asyncio"}
    assert not heavy & set(loaded)


def test_stepping_needs_no_pandas(tmp_path: Path) -> None:
    program = f"""if True:
        import sys, matterstack as ms
        run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path={str(tmp_path)!r})
        run.wait(); print(run)
        print(*(name for name in sys.modules if name.startswith(("matterstack.operators.requests", "csv", "zipfile"))))
        run.explain()
        print(*({{"pandas", "networkx", "ipywidgets", "jsonschema"}} & set(sys.modules)))"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-2:] == ["", ""]


def test_the_tree_of_errors_is_the_one_drawn() -> None:
    drawn: dict[str, str | None] = {}
    stack: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"^    ([│ ├└─]*)(\w+Error)", line):
            depth, name = len(match.group(1)), match.group(2)
            while stack and stack[-1][0] >= depth:
                stack.pop()
            drawn[name] = stack[-1][1] if stack else None
            stack.append((depth, name))
    real = {
        name: next((base.__name__ for base in value.__mro__[1:] if base.__name__ in vars(errors)), None)
        for name, value in vars(errors).items()
        if isinstance(value, type)
    }
    assert drawn == real
    assert all(issubclass(getattr(errors, name), ms.errors.MatterstackError) for name in real)  # type: ignore[attr-defined]


def test_errors_carry_their_facts_beside_the_words(run: ms.Run, tmp_path: Path) -> None:
    with pytest.raises(errors.UnknownTaskError) as unknown:
        run.retry("nobody")
    assert unknown.value.task_id == "nobody"
    with pytest.raises(errors.RunNotFoundError) as missing:
        ms.open_run(tmp_path)
    assert missing.value.path == tmp_path
    with pytest.raises(errors.InvalidTaskError) as invalid:
        ms.Task("relax", "true", retries=-1)
    assert invalid.value.task_id == "relax"
    ask = ms.Workflow([ms.Task("ask", operator="human", schema={"required": ["n"]})])
    asked = ms.initialize_run("w", ask, base_path=tmp_path, operators={"human": ms.HumanOperator()})
    asked.step()
    with pytest.raises(errors.AnswerRefusedError) as refused:
        asked.respond("ask", {})
    assert refused.value.violations == ("$.n: is missing",)
    (run.path / "state.sqlite").write_bytes(b"garbage" * 100)
    with pytest.raises(errors.DamagedStoreError) as damaged:
        ms.open_run(run.path)
    assert damaged.value.path == run.path / "state.sqlite"


def test_tasks_table(run: ms.Run) -> None:
    frame = run.tasks
    assert list(frame.columns) == [
        "iteration", "task_id", "status", "operator", "attempt", "reason",
        "submitted_at", "started_at", "ended_at", "exit_code", "cached", "tags",
    ]  # fmt: skip
    assert list(frame.index) == ["0.a", "0.b", "0.bad", "0.never"]
    assert list(frame["status"]) == ["COMPLETED", "COMPLETED", "FAILED", "SKIPPED"]
    assert str(frame.dtypes["started_at"]) == "datetime64[us, UTC]"
    assert isinstance(frame.dtypes["status"], pd.CategoricalDtype)
    assert str(frame.dtypes["exit_code"]) == str(frame.dtypes["attempt"]) == "Int64"
    assert frame.loc["0.never", "reason"] == "bad failed"
    assert pd.isna(frame.loc["0.never", "started_at"])
    assert (frame["ended_at"].dropna() >= frame["started_at"].dropna()).all()


def test_attempts_events_and_results_tables(run: ms.Run) -> None:
    attempts = run.attempts
    assert list(attempts.index) == ["0.a.1", "0.b.1", "0.bad.1"]
    assert attempts["token"].str.match(r"ms-[0-9a-f]+$").all()
    assert attempts["external_id"].str.match(r"\d+:\d+$").all()
    events = run.events
    assert list(events["seq"]) == list(range(1, len(events) + 1))
    assert set(events["subject"]) == {"run", "task", "attempt"}
    assert list(events[events["subject"] == "run"]["event"]) == ["start", "fail"]
    results = run.results
    assert list(results.index) == ["0.a", "0.b"]
    assert results.loc["0.a", "energy_eV"] == -1.5
    assert results.loc["0.a", "cell"] == [1, 2]
    assert (results.loc["0.a", "attempt"], results.loc["0.a", "attempt_"]) == (1, 7), "no key hides the identity"
    assert results.loc["0.b", "data"] == [1]


def test_no_key_of_a_result_is_lost_in_the_table(tmp_path: Path) -> None:
    data = {
        f"{name}{'_' * n}": f"{name} {n}"
        for name in ("iteration", "task_id", "attempt", "function", "data")
        for n in range(4)
    }
    flow = ms.Workflow([ms.Task("a", "cp given.json result.json", files={"given.json": json.dumps(data)})])
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    row = run.results.loc["0.a"]
    assert list(row[["iteration", "task_id", "attempt"]]) == [0, "a", 1]
    for name in ("iteration", "task_id", "attempt", "function"):
        assert [row[f"{name}{'_' * (n + 1)}"] for n in range(4)] == [f"{name} {n}" for n in range(4)]
    assert row["data"] == "data 0"
    assert len(row) == 4 + len(data)


def test_a_finished_task_does_not_say_what_it_once_waited_for(tmp_path: Path) -> None:
    queue = Queue()
    flow = ms.Workflow([ms.Task("a", ["x"], operator="queue"), ms.Task("b", ["x"], operator="queue")])
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"queue": queue})
    run.step()
    run.step()
    assert set(run.tasks["reason"]) == {"the queue says PENDING"}
    queue.says = Observation(Seen.RUNNING)
    run.step()
    assert run.attempts["reason"].isna().all(), "it waits no more"
    queue.says = Observation(Seen.ENDED, reason="its end was seen late")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert set(run.tasks["reason"]) == {"its end was seen late"}, "what was said of the end stays"

    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"queue": queue})
    queue.says = Observation(Seen.QUEUED, reason="the queue says PENDING")
    run.step()
    run.step()
    queue.says = Observation(Seen.ENDED)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.tasks["reason"].isna().all()
    assert run.attempts["reason"].isna().all()


def test_tables_of_a_run_where_nothing_happened(tmp_path: Path) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path)
    assert len(run.tasks) == 1
    for frame in (run.attempts, run.events, run.results):
        assert frame.empty
        assert len(frame.columns) > 2


def test_runs_of_a_workspace(run: ms.Run, tmp_path: Path) -> None:
    ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path, run_id="zz")
    broken = run.path.parent / "yy"
    broken.mkdir()
    (broken / "state.sqlite").write_bytes(b"garbage" * 100)
    frame = ms.runs("w", base_path=tmp_path).set_index("run_id")
    assert list(frame.index) == [run.run_id, "yy", "zz"]
    assert frame.loc[run.run_id, "status"] == "FAILED"
    assert "not a database" in str(frame.loc["yy", "reason"]), "one broken run hides no other"
    assert frame.loc["zz", "tasks"] == 1


def test_tables_of_a_workspace_whose_path_is_not_in_utf8(tmp_path: Path) -> None:
    base = tmp_path / os.fsdecode(b"lab\xe9")
    ask = ms.Task("a", operator="human", instructions="Look", schema={"type": "object"})
    operators = {"human": ms.HumanOperator()}
    run = ms.initialize_run("w", ms.Workflow([ask]), base_path=base, operators=operators)
    run.step()
    frame = ms.runs("w", base_path=base)
    assert ms.open_run(frame.loc[0, "path"]).run_id == run.run_id
    assert str(frame["status"].dtype) == "str"
    assert frame._repr_html_().encode()
    assert list(ms.inbox("w", base_path=base).frame["directory"]) == [str(run.inbox()[0].directory)]


def test_summary_is_rich_and_its_text_twin_says_the_same(run: ms.Run) -> None:
    text, html = repr(run), run._repr_html_()
    for word in (run.run_id, "FAILED", "2 completed", "1 failed", "1 skipped", "bad"):
        assert word in text
        assert word in html


def test_what_comes_from_outside_is_escaped(run: ms.Run) -> None:
    assert HOSTILE in str(run.tasks.loc["0.bad", "reason"])
    for html in (run._repr_html_(), run.explain()._repr_html_()):
        assert "<img src" not in html
        assert "</script>" not in html
    assert "&lt;img" in run.explain()._repr_html_()
    run.retry().pause(HOSTILE)
    assert "&lt;img" in run._repr_html_()
    assert "<img src" not in run._repr_html_()


def test_explain_says_what_why_and_what_to_do(run: ms.Run) -> None:
    said = run.explain()
    assert [item.what for item in said] == ["task bad"]
    assert said[0].remedy.split("  #")[0] == "run.retry('bad')"
    assert "FAILED" in repr(said)


def test_pause_resume_retry_cancel(run: ms.Run) -> None:
    with pytest.raises(errors.RunStatusError, match="FAILED"):
        run.pause()
    with pytest.raises(errors.UnknownTaskError, match="'nobody'"):
        run.retry("nobody")
    run.retry("bad")
    assert run.status is ms.RunStatus.RUNNING
    assert run.tasks.loc["0.never", "status"] == "PENDING"
    with pytest.raises(errors.RunStatusError, match="nothing to retry"):
        run.retry("never")
    run.pause()
    assert run.step().submitted == 0, "PAUSED stops submitting"
    run.resume()
    assert run.wait(timeout_s=120) is ms.RunStatus.FAILED
    assert list(run.attempts[run.attempts["task_id"] == "bad"]["status"]) == ["FAILED", "FAILED"]
    run.retry("a")
    assert list(run.tasks["status"]) == ["PENDING", "PENDING", "FAILED", "SKIPPED"], "with all that used its results"
    run.cancel("enough")
    assert run.status is ms.RunStatus.CANCELLED
    assert run.counts.ready == 0


def test_every_public_method_of_a_run_can_be_called(tmp_path: Path) -> None:
    """Each of them once, in the life of one run; a method that is added has to be added here."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    flow = ms.Workflow(
        [
            ms.Task("lost", f"cat {gate}", allow_failure=True),
            ms.Task("bad", "exit 1", allow_failure=True),
            ms.Task("ask", operator="human", instructions="?"),
            ms.Task("carry", "echo hello > output/hello.txt", operator="manual"),
        ]
    )
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator(), "manual": ms.ManualHPCOperator()}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    called: set[str] = set()

    def call(name: str, *arguments: Any, **options: Any) -> Any:
        called.add(name)
        value = getattr(type(run), name)
        return value.__get__(run) if isinstance(value, property) else value(run, *arguments, **options)

    for name in (
        "path",
        "run_id",
        "workspace",
        "status",
        "reason",
        "iteration",
        "overview",
        "counts",
        "campaign_state",
    ):
        call(name)
    assert call("step").submitted == 4
    with open(gate, "w"):  # it runs
        pass
    while run.tasks.loc["0.bad", "status"] != "FAILED":
        next(iter(call("ticks", timeout_s=0)))
    for name in ("tasks", "attempts", "events", "results", "disk_usage"):
        assert isinstance(call(name), pd.DataFrame)
    assert len(call("inbox")) == 2
    assert call("store").run().run_id == run.run_id
    assert set(call("operators")) == set(operators)
    assert len(call("graph")) == 4
    assert call("browse", "bad").begun["attempt"]["name"] == "0.bad"
    assert call("task_directory", "bad") == run.path / "operators/local/0.bad.1"
    assert call("export_kits", tmp_path / "out.zip") == ["0.carry.1"]
    assert call("import_kits", tmp_path / "out.zip").without_results == ["0.carry.1"]
    assert [one.name for one in call("made_from", "bad").outputs] == []
    assert call("used_by", "bad").links == []
    assert not call("explain_cache", "bad").hit
    for name in ("dag", "table", "watch", "timeline", "plot_timeline", "explain", "spent"):
        assert call(name) is not None
    call("take_environment")
    run.configure(notify=["/bin/true"])
    call("tell", "hello")
    call("pause")
    call("resume")
    call("retry", "bad")
    call("hold", "carry")
    call("release", "carry")
    assert call("spent").tasks == 4
    assert list(call("time_spent")["attempts"]) == [len(call("attempts"))]
    call("respond", "ask", {"n": 1})
    assert call("wait", timeout_s=0.5) is ms.RunStatus.RUNNING
    assert call("plot", "n") is not None
    assert call("scatter", "time", "n").twin_text()
    assert call("target") == {}
    call("cancel_task", "carry")
    assert call("untag", "odd") is call("tag", "cathode") is run
    assert call("tags") == ("cathode",)
    call("cancel", timeout_s=120)
    assert call("disk_usage")["files"].sum() > 0
    assert call("verify")
    assert call("export", tmp_path / "handed on").is_dir()
    assert len(call("clean")) == 1
    assert len(call("pack")) == 0
    public = {name for name, _ in inspect.getmembers(ms.Run) if not name.startswith("_")}
    assert public - called == {
        "declare_lost",
        "reopen",
        "configure",
        "take_late",
        "wait_async",
        "value",
        "file",
        "results_of",
    }, "which have tests of their own"


def test_a_task_that_nobody_can_be_asked_about_is_declared_lost(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    flow = ms.Workflow(
        [
            ms.Task("a", f"until test -e {gate}; do sleep 0.1; done", retries=1, retry_on=["LOST"]),
            ms.Task("b", f"until test -e {gate}; do sleep 0.1; done", allow_failure=True),
            ms.Task("after", "true", dependencies=["b"]),
        ]
    )
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": ms.LocalOperator(max_active=2)})
    run.step()
    assert run.declare_lost("a").tasks.loc["0.a", "status"] == "PENDING", "its retry policy decides"
    run.declare_lost("b")
    assert list(run.attempts["status"]) == ["LOST", "LOST"]
    assert run.tasks.loc["0.b", "reason"] == "declared lost by a person"
    assert run.tasks.loc["0.after", "status"] == "SKIPPED"
    with pytest.raises(errors.RunStatusError, match="FAILED and has no attempt"):
        run.declare_lost("b")
    with pytest.raises(errors.UnknownTaskError):
        run.declare_lost("nobody")
    run.cancel(timeout_s=120)
    gate.touch()  # who was declared lost is alive, and ends now


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("a", "true")])
    bad: list[dict[str, Any]] = [
        {"config": {"suspend_afer": 3}},
        {"config": {"suspend_after": 0}},
        {"operators": {"local": "LocalOperator"}},
        {"operators": {"lo/cal": ms.LocalOperator()}},
        {"run_id": "../x"},
    ]
    for values in bad:
        with pytest.raises((errors.InvalidConfigError, errors.InvalidIdentifierError)):
            ms.initialize_run("w", flow, base_path=tmp_path, **values)
    with pytest.raises(errors.InvalidIdentifierError):
        ms.initialize_run("w/../..", flow, base_path=tmp_path)
    with pytest.raises(errors.CampaignError, match="Campaign or a Workflow"):
        ms.initialize_run("w", {"a": "true"}, base_path=tmp_path)  # type: ignore[arg-type]
    for value in (0, -1, 1.5, "two"):
        with pytest.raises(errors.InvalidConfigError):
            ms.LocalOperator(max_active=value)  # type: ignore[arg-type]
    run = ms.initialize_run("w", flow, base_path=tmp_path, run_id="r")
    with pytest.raises(errors.RunExistsError, match="open_run"):
        ms.initialize_run("w", flow, base_path=tmp_path, run_id="r")
    (run.path / "config.json").write_text("{")
    with pytest.raises(errors.InvalidConfigError, match=r"config\.json"):
        ms.open_run(run.path)


def test_reopened_run_rebuilds_its_operators(tmp_path: Path) -> None:
    operators = {"local": ms.LocalOperator(max_active=3, kill_grace_s=1.5)}
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path, operators=operators)
    assert repr(ms.open_run(run.path)._session.operators["local"]) == "LocalOperator(max_active=3, kill_grace_s=1.5)"


CAMPAIGN = """
import matterstack as ms

class Rounds(ms.Campaign):
    def initial_state(self):
        return 0

    def plan(self, state):
        return ms.Workflow([ms.Task("a", "true")]) if state < 2 else None

    def analyze(self, state, results):
        return state + 1
"""


def test_command_line_with_a_campaign_that_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rounds_of_mine.py").write_text(CAMPAIGN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    from rounds_of_mine import Rounds  # type: ignore[import-not-found]

    path = ms.initialize_run("w", Rounds(), base_path=tmp_path).path

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "matterstack", *arguments], capture_output=True, text=True, check=False
        )

    assert call("status", str(path)).stdout.startswith(f"Run {path.name} of w: PENDING")
    assert "it was never stepped" in call("explain", str(path)).stdout
    assert call("step", str(path)).stdout == "Tick: 1 tasks ready, 1 submitted, 0 completed\n"
    done = call("wait", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "COMPLETED" in call("status", str(path)).stdout
    assert ms.open_run(path).campaign_state == 2
    missing = call("status", str(tmp_path))
    assert missing.returncode == 1
    assert "RunNotFoundError" in missing.stderr
    assert call("dance", str(path)).returncode == 2


def test_run_without_its_campaign_stops_before_analyze_and_says_so(tmp_path: Path) -> None:
    class OfACell(ms.Campaign):
        def __init__(self) -> None:
            self.model = object()  # no file can hold it

        def plan(self, state: Any) -> ms.Workflow | None:
            return None if state.get("done") else ms.Workflow([ms.Task("a", "true")])

        def analyze(self, state: Any, results: Any) -> Any:
            return {"done": True}

    path = ms.initialize_run("w", OfACell(), base_path=tmp_path).path
    run = ms.open_run(path)
    assert run.wait(timeout_s=120) is ms.RunStatus.RUNNING
    assert run.counts.completed == 1, "the iteration itself was run"
    said = str(run.explain())
    assert "open_run(path, campaign=...)" in said
    assert re.search(r"could not be kept with the run: .*OfACell\.model is", said)
    assert ms.open_run(path, campaign=OfACell()).wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_a_campaign_that_differs_from_its_class_is_kept_with_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settable_rounds.py").write_text(CAMPAIGN + "    def __init__(self, n=2):\n        self.n = n\n")
    monkeypatch.syspath_prepend(tmp_path)
    from settable_rounds import Rounds  # type: ignore[import-not-found]

    same = ms.initialize_run("w", Rounds(), base_path=tmp_path)
    other = ms.initialize_run("w", Rounds(3), base_path=tmp_path)
    assert ms.open_run(same.path)._session.reference == "settable_rounds:Rounds"
    monkeypatch.undo()
    kept = ms.open_run(other.path)._session.load_campaign()
    assert (type(kept).__name__, kept.n) == ("Rounds", 3)  # type: ignore[union-attr]


def test_tick_summary_is_logged_as_a_structured_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "matterstack.tick")
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path)
    report = run.step()
    (record,) = [record for record in caplog.records if record.name == "matterstack.tick"]
    assert record.getMessage() == str(report) == "Tick: 1 tasks ready, 1 submitted, 0 completed"
    fields = vars(record)
    assert (fields["ready"], fields["submitted"], fields["completed"], fields["run_id"]) == (1, 1, 0, run.run_id)


def test_waiting_shows_its_progress_in_a_terminal(tmp_path: Path) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "sleep 0.4")]), base_path=tmp_path)
    ours, theirs = pty.openpty()
    done = subprocess.Popen([sys.executable, "-m", "matterstack", "wait", str(run.path)], stderr=theirs, stdout=-1)
    os.close(theirs)
    output, _ = done.communicate(timeout=120)
    written = b""
    with contextlib.suppress(OSError):  # EIO when all is read; it need not come at once
        while part := os.read(ours, 100_000):
            written += part
    os.close(ours)
    shown = written.decode()
    assert done.returncode == 0
    assert f"{run.run_id} RUNNING: iteration 0, 0 of 1 tasks over" in shown
    assert f"{run.run_id} COMPLETED: iteration 0, 1 of 1 tasks over (1 completed)\r\n" in shown
    assert "\x1b" not in output.decode(), "what is piped on is plain"


def test_interrupted_command_line_says_what_it_means(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", f"cat {gate}")]), base_path=tmp_path)
    waiting = subprocess.Popen(
        [sys.executable, "-m", "matterstack", "wait", str(run.path)], stderr=subprocess.PIPE, text=True
    )
    with open(gate, "w"):  # the command is under way
        waiting.send_signal(signal.SIGINT)
        _, error = waiting.communicate(timeout=120)
    assert waiting.returncode == 130
    assert error.strip() == "matterstack: stopped waiting; the run's tasks go on"
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
