"""What a stranger plants in a run's directory is neither followed nor believed, also by one who trusts the run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from crashes import killed_at

import matterstack as ms
from matterstack.errors import InvalidConfigError, UnsafeFileError
from matterstack.notebook.board import Board
from matterstack.notebook.context import context_html
from matterstack.notebook.details import details_html


def make(base: Path, *tasks: ms.Task) -> ms.Run:
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator()}
    return ms.initialize_run("w", ms.Workflow(tasks), base_path=base, operators=operators, run_id="r")


@pytest.mark.parametrize("reference", ["os:abort", "sys:exit", "builtins:dict", "matterstack:Workflow", "json:no_such"])
def test_a_campaign_that_is_none_is_not_called(tmp_path: Path, reference: str) -> None:
    run = make(tmp_path, ms.Task("a", "true"))
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps({**config, "campaign": reference}))
    program = (
        f"import matterstack as ms; run = ms.open_run({str(run.path)!r}); print(run.wait(timeout_s=30), run.reason)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PAUSED the campaign could not go on")
    assert "not a Campaign" in done.stdout or "cannot be imported" in done.stdout


class Leaves(ms.Campaign):
    def plan(self, state: object) -> ms.Workflow | None:
        if state:
            sys.exit(0)
        return ms.Workflow([ms.Task("a", "true")])

    def analyze(self, state: object, results: object) -> object:
        return {"again": True}


def test_a_campaign_that_ends_the_process_is_an_error(tmp_path: Path) -> None:
    run = ms.initialize_run("w", Leaves(), base_path=tmp_path)
    assert run.wait(timeout_s=30) is ms.RunStatus.PAUSED
    assert "SystemExit" in str(run.reason)


@pytest.mark.parametrize("name", ["../../../elsewhere", "a/b", "", ".hidden", "x" * 200])
def test_an_operator_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    run = make(tmp_path, ms.Task("a", "true"))
    config = json.loads((run.path / "config.json").read_text())
    config["operators"][name] = {"kind": "local", "settings": {}}
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidConfigError, match="operator name"):
        ms.open_run(run.path)


@pytest.mark.parametrize("link", ["operators", "operators/local"])
def test_a_link_where_attempts_are_is_not_followed(tmp_path: Path, link: str) -> None:
    run = make(tmp_path, ms.Task("a", "true"))
    outside = tmp_path / "outside"
    outside.mkdir()
    place = run.path / link
    if place.is_dir():
        shutil.rmtree(place)
    place.symlink_to(outside)
    with pytest.raises(UnsafeFileError, match="no folder of the run's own"):
        run.step()
    assert list(outside.iterdir()) == []
    assert run.tasks.loc["0.a", "status"] == "PENDING"


def test_a_kept_file_whose_content_was_changed_is_not_placed(tmp_path: Path) -> None:
    source = tmp_path / "relax.py"
    source.write_text("print('as reviewed')")
    run = make(tmp_path, ms.Task("a", "python relax.py", files={"relax.py": source}))
    (kept,) = (run.path / "files").iterdir()
    kept.chmod(0o644)
    kept.write_text("print('something else')")
    assert run.wait(timeout_s=30) is ms.RunStatus.FAILED
    assert "does not hold what it was named after" in str(run.tasks.loc["0.a", "reason"])
    assert not (run.path / "operators/local/0.a.1").exists()


def test_a_directory_that_was_planted_for_an_attempt_is_not_used(tmp_path: Path) -> None:
    """Neither for one that is new, nor for one whose submission was interrupted."""
    for interrupted in (False, True):
        base = tmp_path / str(interrupted)
        run = make(base, ms.Task("a", "sh relax.sh", files={"relax.sh": f"touch {base}/as-reviewed"}))
        if interrupted:
            assert killed_at("attempt.made", 1, run.step)
            assert list(run.attempts["status"]) == ["SUBMITTING"]
        planted = run.path / "operators/local/0.a.1"
        planted.mkdir(parents=True)
        (planted / "relax.sh").write_text(f"touch {base}/pwned")
        assert run.wait(timeout_s=30) is ms.RunStatus.FAILED
        assert "was there already, and is not as this run makes it" in str(run.tasks.loc["0.a", "reason"])
        assert not (base / "pwned").exists()


def test_a_verdict_that_was_planted_passes_no_gate(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("gate", operator="human", instructions="Shall we?", schema=ms.Approve()))
    assert killed_at("attempt.made", 1, run.step)
    planted = run.path / "operators/human/0.gate.1/.matterstack"
    planted.mkdir(parents=True)
    (planted / "verdict.json").write_text('{"outcome": "accepted", "at": 0, "by": "Ada", "source": "response.json"}')
    for _ in range(3):
        run.step()
    assert run.status is ms.RunStatus.FAILED
    assert "was there already" in str(run.tasks.loc["0.gate", "reason"])


def test_an_attempt_whose_own_directory_is_there_already_goes_on(tmp_path: Path) -> None:
    for point in ("attempt.renamed", "submit.prepared", "submit.submitted"):
        run = make(tmp_path / point, ms.Task("a", "cat in.txt", files={"in.txt": "x", "deep/er.txt": "y"}), ask())
        assert killed_at(point, 1, run.step)
        run = ms.open_run(run.path)
        while not run.inbox():
            run.step()
        run.respond("ask", {})
        assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED, str(run.explain())
        assert list(run.attempts["attempt"]) == [1, 1]


def ask() -> ms.Task:
    return ms.Task("ask", operator="human", instructions="?")


def test_the_check_of_an_answer_imports_nothing_of_the_present_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": "^a+$"}}}
    run = make(tmp_path, ms.Task("ask", operator="human", instructions="?", schema=schema))
    run.step()
    for name in ("jsonschema", "matterstack", "json"):
        (run.path / f"{name}.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w').close()")
    monkeypatch.chdir(run.path)
    (run.task_directory("ask") / "response.json").write_text('{"x": "aaa"}')
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert not (tmp_path / "pwned").exists()


def test_text_of_jobs_and_runs_reaches_a_terminal_neutral(tmp_path: Path) -> None:
    clipboard = "\x1b]52;c;cHduZWQ=\x07"
    run = make(tmp_path, ms.Task("a", f"printf {clipboard!r} >&2; exit 1"))
    run.wait(timeout_s=30)
    for command in ("status", "explain", "step"):
        done = subprocess.run([sys.executable, "-m", "matterstack", command, str(run.path)], capture_output=True)
        assert b"\x1b" not in done.stdout + done.stderr
    odd = tmp_path / f"odd{clipboard}name"
    done = subprocess.run([sys.executable, "-m", "matterstack", "status", os.fsencode(odd)], capture_output=True)
    assert done.returncode == 1
    assert b"\x1b" not in done.stderr


@pytest.mark.parametrize("link", ["operators", "operators/human", "operators/human/0.look.1"])
def test_a_view_does_not_follow_a_link(tmp_path: Path, link: str) -> None:
    task = ms.Task("look", operator="human", instructions="good?")
    run = make(tmp_path, task)
    run.step()
    outside = tmp_path / "outside"
    (run.path / link).rename(outside)
    (run.path / link).symlink_to(outside)
    folder = run.task_directory("look")
    (folder / "cell.png").write_bytes(b"secret picture")
    (folder / "results.csv").write_text("secret,table\n")
    (folder / "stdout.txt").write_text("secret words\n")
    board = Board(run.store)
    board.refresh()
    shown = details_html(run, board, "0.look")
    assert "good?" in shown
    assert "secret" not in shown
    assert "cell.png" not in shown
    assert context_html(folder) == ""
