"""An instrument in a process of its own exchanges files with a run."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import matterstack as ms
from matterstack.errors import InvalidConfigError, InvalidTaskError, RunStatusError
from matterstack.operators.requests.experiment import REQUEST_SCHEMA

PARAMETERS = {"type": "object", "properties": {"symbol": {"enum": ["Cu", "Fe", "Al"]}}, "required": ["symbol"]}
RESULT = {
    "type": "object",
    "properties": {"lattice_constant_A": {"type": "number", "exclusiveMinimum": 0}},
    "required": ["lattice_constant_A", "two_theta_deg"],
}


def start(
    base: Path, symbols: tuple[str, ...] = ("Cu",), *, task: Any = (), step: bool = True, **settings: Any
) -> ms.Run:
    flow = ms.Workflow(
        [
            ms.Task(f"xrd_{s}", operator="xrd", parameters={"symbol": s}, outputs=["pattern.csv"], **dict(task))
            for s in symbols
        ]
    )
    operator = ms.ExperimentOperator(request_schema=PARAMETERS, result_schema=RESULT, **settings)
    run = ms.initialize_run("lab", flow, base_path=base, operators={"xrd": operator})
    if step:
        run.step()
    return run


def exchange(run: ms.Run, name: str = "0.xrd_Cu.1") -> Path:
    return run.path / "operators/xrd" / name


@contextmanager
def instrument(run: ms.Run, mood: str = "good", count: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    """Start an instrument, and wait until it looks for requests."""
    program = Path(__file__).parents[1] / "helpers/instrument.py"
    process = subprocess.Popen(
        [sys.executable, str(program), str(run.path / "operators/xrd"), "--mood", mood, "--count", str(count)],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline()
            yield process
    finally:
        process.kill()
        process.wait(timeout=120)


def begun(run: ms.Run) -> list[str]:
    ledger = run.path / "instrument.ledger"
    return ledger.read_text().split("\n")[:-1] if ledger.exists() else []


def test_the_request_obeys_its_schema_and_is_visible(tmp_path: Path) -> None:
    run = start(tmp_path, task={"assignee": "the diffractometer"}, heartbeat_timeout_s=60)
    request = json.loads((exchange(run) / "experiment_request.json").read_text())
    jsonschema.validate(request, dict(REQUEST_SCHEMA))
    assert request["parameters"] == {"symbol": "Cu"}
    (waiting,) = run.inbox()
    assert waiting.assignee == "the diffractometer"
    with pytest.raises(RunStatusError, match="takes no answers"):
        run.respond("xrd_Cu", {})


@pytest.mark.parametrize("mood", ["good", "wrong", "liar", "late"])
def test_measured_data_and_files_come_home(tmp_path: Path, mood: str) -> None:
    run = start(tmp_path)
    with instrument(run, mood):
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    result = run.results.loc["0.xrd_Cu"]
    assert result["lattice_constant_A"] == pytest.approx(3.61, abs=0.01)
    assert result["two_theta_deg"][0] == pytest.approx(43.3, abs=0.2)
    assert list(result["files"]) == ["pattern.csv"]
    assert json.loads((exchange(run) / ".matterstack/verdict.json").read_text())["outcome"] == "accepted"
    assert len(list((exchange(run)).glob(".matterstack/rejected/*.reason.json"))) == (2 if mood == "wrong" else 0)
    events = list(run.events[run.events["subject"] == "attempt"]["event"])
    assert events[:2] == ["submitted", "waiting"]


def test_many_samples_one_instrument(tmp_path: Path) -> None:
    run = start(tmp_path, ("Cu", "Fe", "Al"))
    with instrument(run, count=3):
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert list(run.results["symbol"]) == ["Cu", "Fe", "Al"]
    assert len(begun(run)) == 3


def test_two_instruments_do_not_take_up_one_request(tmp_path: Path) -> None:
    run = start(tmp_path, ("Cu", "Fe", "Al"))
    with instrument(run, count=3), instrument(run, count=3):
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert sorted(begun(run)) == sorted(f"begin {token}" for token in run.attempts["token"])


def test_an_instrument_that_reports_a_failure(tmp_path: Path) -> None:
    run = start(tmp_path)
    with instrument(run, "failing"):
        assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    assert run.tasks.loc["0.xrd_Cu", "reason"] == "the instrument says FAILED: no sample in the holder"


def test_an_instrument_that_falls_silent_is_given_up_and_told(tmp_path: Path) -> None:
    run = start(tmp_path, heartbeat_timeout_s=0.5)
    with instrument(run, "silent"):
        assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    assert list(run.attempts["status"]) == ["LOST"]
    assert "no sign of life" in str(run.tasks.loc["0.xrd_Cu", "reason"])
    assert (exchange(run) / "experiment_abort.json").exists()


def test_a_request_nobody_takes_up_expires_and_can_be_taken_up_no_more(tmp_path: Path) -> None:
    run = start(tmp_path, task={"timeout_s": 0.001})
    run.step()
    run.step()
    assert run.status is ms.RunStatus.FAILED
    assert "no good answer came within" in str(run.tasks.loc["0.xrd_Cu", "reason"])
    with instrument(run) as process, pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    assert begun(run) == []


def test_cancelling_before_anybody_began_withdraws(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.cancel()
    assert list(run.attempts["status"]) == ["CANCELLED"]


def test_cancelling_asks_an_instrument_that_has_begun_to_abort(tmp_path: Path) -> None:
    run = start(tmp_path)
    with instrument(run, "patient") as process:
        while run.attempts.loc["0.xrd_Cu.1", "status"] != "RUNNING":
            run.step()
        run.cancel(timeout_s=120)
        assert process.wait(timeout=120) == 0
    assert list(run.attempts["status"]) == ["CANCELLED"]
    assert json.loads((exchange(run) / "experiment_result.json").read_text())["status"] == "ABORTED"


def test_an_experiment_over_its_time_is_asked_to_abort_and_says_that_it_has(tmp_path: Path) -> None:
    run = start(tmp_path, task={"timeout_s": 600.0})
    with instrument(run, "patient"):
        while run.attempts.loc["0.xrd_Cu.1", "status"] != "RUNNING":
            run.step()
        with closing(sqlite3.connect(run.path / "state.sqlite")) as there, there:
            there.execute("UPDATE attempts SET submitted_at = submitted_at - 600")
        assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    assert run.tasks.loc["0.xrd_Cu", "reason"] == "the instrument says ABORTED: asked to stop"


def test_parameters_are_checked_before_a_run_is_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidTaskError, match="must be 'Cu' or 'Fe' or 'Al', not 'Unobtainium'"):
        start(tmp_path, ("Unobtainium",))
    with pytest.raises(InvalidTaskError, match="not a JSON Schema"):
        ms.ExperimentOperator(result_schema={"type": "nonsense"})
    with pytest.raises(InvalidConfigError):
        ms.ExperimentOperator(heartbeat_timeout_s=0)


def test_a_run_in_another_kernel_goes_on_with_the_same_settings(tmp_path: Path) -> None:
    run = start(tmp_path, heartbeat_timeout_s=60)
    again = ms.open_run(run.path)
    with instrument(run):
        assert again.wait(timeout_s=60) is ms.RunStatus.COMPLETED


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../../../../state.sqlite", "refused answer 1 of 3: $.files[0].path"),
        ("/etc/passwd", "refused answer 1 of 3: $.files[0].path"),
        ("C:\\Data\\scan1.xy", "refused answer 1 of 3: $.files[0].path"),
        ("a/./..\\..\\state.sqlite", "refused answer 1 of 3: $.files[0].path"),
        ("link", "cannot be used yet"),
    ],
)
def test_a_result_that_names_a_file_outside(tmp_path: Path, path: str, said: str) -> None:
    run = start(tmp_path)
    (exchange(run) / "link").symlink_to("/etc/passwd")
    (exchange(run) / "experiment_ack.json").write_text("{}")
    result = {
        "token": run.attempts.loc["0.xrd_Cu.1", "token"],
        "status": "COMPLETED",
        "data": {"lattice_constant_A": 3.6, "two_theta_deg": []},
        "files": [{"path": path, "sha256": "0" * 64}],
    }
    (exchange(run) / "experiment_result.json").write_text(json.dumps(result))
    for _ in range(3):
        run.step()
    assert run.tasks.loc["0.xrd_Cu", "status"] == "SUBMITTED"
    assert said in str(run.tasks.loc["0.xrd_Cu", "reason"])


@pytest.mark.parametrize("path", ["data\\scan1.xy", "./data/scan1.xy", ".\\data\\scan1.xy", "data//scan1.xy"])
def test_a_path_as_instruments_under_windows_write_it(tmp_path: Path, path: str) -> None:
    task = ms.Task("xrd", operator="xrd", outputs=["data/scan1.xy"])
    operators = {"xrd": ms.ExperimentOperator()}
    run = ms.initialize_run("lab", ms.Workflow([task]), base_path=tmp_path, operators=operators)
    run.step()
    home = exchange(run, "0.xrd.1")
    (home / "experiment_ack.json").write_text("{}")
    (home / "data").mkdir()
    (home / "data/scan1.xy").write_text("20 15")
    result = {
        "token": run.attempts.loc["0.xrd.1", "token"],
        "status": "COMPLETED",
        "data": {},
        "files": [{"path": path, "sha256": hashlib.sha256(b"20 15").hexdigest()}],
    }
    (home / "experiment_result.json").write_text(json.dumps(result))
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert list(run.results.loc["0.xrd", "files"]) == ["data/scan1.xy"]


def test_a_measurement_file_that_may_not_be_read_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matterstack.operators.requests import experiment

    run = start(tmp_path)
    (exchange(run) / "experiment_ack.json").write_text("{}")
    (exchange(run) / "pattern.csv").write_text("it")
    result = {
        "token": run.attempts.loc["0.xrd_Cu.1", "token"],
        "status": "COMPLETED",
        "data": {"lattice_constant_A": 3.6, "two_theta_deg": []},
        "files": [{"path": "pattern.csv", "sha256": hashlib.sha256(b"it").hexdigest()}],
    }

    def refuse(*_: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(experiment, "_digest", refuse)
    (exchange(run) / "experiment_result.json").write_text(json.dumps(result))
    run.step()
    run.step()
    assert "pattern.csv is there and may not be read" in str(run.tasks.loc["0.xrd_Cu", "reason"])
    assert "chmod a+r" in str(run.tasks.loc["0.xrd_Cu", "reason"])
    monkeypatch.undo()
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_a_result_under_a_name_that_is_nearly_right(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.step()
    assert run.tasks.loc["0.xrd_Cu", "reason"] == "experiment_result.json in 0.xrd_Cu.1"
    (exchange(run) / "experiment_ack.json").write_text("{}")
    (exchange(run) / "experiment_result.JSON").write_text("{}")
    run.step()
    run.step()
    said = "there is experiment_result.JSON: rename it to experiment_result.json"
    assert said in str(run.tasks.loc["0.xrd_Cu", "reason"])


def test_a_measurement_file_that_is_not_the_one_measured_is_waited_for(tmp_path: Path) -> None:
    run = start(tmp_path)
    (exchange(run) / "experiment_ack.json").write_text("{}")
    (exchange(run) / "pattern.csv").write_text("half of i")
    result = {
        "token": run.attempts.loc["0.xrd_Cu.1", "token"],
        "status": "COMPLETED",
        "data": {"lattice_constant_A": 3.6, "two_theta_deg": []},
        "files": [{"path": "pattern.csv", "sha256": hashlib.sha256(b"half of it").hexdigest()}],
    }
    (exchange(run) / "experiment_result.json").write_text(json.dumps(result))
    for _ in range(3):
        run.step()
    assert "'pattern.csv' is not whole yet" in str(run.tasks.loc["0.xrd_Cu", "reason"])
    (exchange(run) / "pattern.csv").write_text("half of it")
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
