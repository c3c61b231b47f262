"""What other operating systems can do, in processes that lack what those lack."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kit_lab import execute
from slurm_lab import cluster
from ssh_lab import server

import matterstack as ms
from matterstack import platforms

ROOT = Path(__file__).parent.parent
HELPERS = Path(__file__).parent / "helpers"
SENTENCE = (
    "MatterStack on macOS cannot run commands and functions itself; it can look at runs, take answers of people, "
    "carry kits, begin runs, send commands to Slurm over ssh: step the run on Linux, where all of it goes on as it "
    "stands. See docs/platforms.md"
)
YES_OR_NO = {"type": "object", "properties": {"ok": {"type": "boolean"}}}

ON_A_MAC = """
import sys
from pathlib import Path
import matterstack as ms
path, out = Path(sys.argv[1]), Path(sys.argv[2])
assert sys.platform == "darwin"
run = ms.open_run(path)
assert dict(zip(run.tasks["task_id"], run.tasks["status"]))["here"] == "COMPLETED"
assert list(ms.runs("m", base_path=path.parents[3])["run_id"]) == [run.run_id]
assert run.file("here", "stdout.txt").read_text() == "hi\\n"
for shown in (run.dag(), run.watch(), run.table(), run.browse("here")):
    assert shown._repr_mimebundle_()
run.respond("ask", {"ok": True})
assert run.export_kits(out / "kits.zip") == ["0.carried.1"]
assert run.verify()
run.export(out / "exported")
report = run.step()
assert report.completed == 1, report
print(run.explain())
"""

TO_A_CLUSTER = """
import sys
import matterstack as ms
assert sys.platform == "darwin"
print(ms.open_run(sys.argv[1]).wait(timeout_s=150))
"""

A_LONG_CHECK = """
import sys
import matterstack as ms
from matterstack.errors import MatterstackError
try:
    ms.open_run(sys.argv[1]).respond("measure", {"name": "aab"})
except MatterstackError as error:
    print(error)
run = ms.open_run(sys.argv[1])
(run.task_directory("measure") / "response.json").write_text('{"name": "aab"}')
run.step()
"""


def as_macos(program: str, *given: object, folder: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "program.py"
    script.write_text(program)
    return subprocess.run(
        [sys.executable, str(HELPERS / "as_macos.py"), str(script), *map(str, given)],
        capture_output=True,
        text=True,
        timeout=180,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_on_macos_one_looks_answers_and_carries_kits_and_commands_wait_for_linux(tmp_path: Path) -> None:
    flow = ms.Workflow(
        [
            ms.Task("here", "echo hi"),
            ms.Task("ask", operator="human", instructions="Is it fine?", schema=YES_OR_NO),
            ms.Task("carried", "echo hi > out", operator="manual", outputs=["out"]),
            ms.Task("later", "echo hi", dependencies=["ask"]),
        ]
    )
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator(), "manual": ms.ManualHPCOperator()}
    run = ms.initialize_run("m", flow, base_path=tmp_path, operators=operators)
    run.wait(timeout_s=60)

    done = as_macos(ON_A_MAC, run.path, tmp_path, folder=tmp_path)

    assert done.returncode == 0, done.stderr
    assert SENTENCE in done.stdout
    assert execute(run.path / "operators/manual/0.carried.1").returncode == 0
    # On Linux the same run goes on, with what could not be started there.
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert set(run.tasks["attempt"]) == {1}


def test_on_macos_commands_go_to_slurm_over_ssh(tmp_path: Path) -> None:
    with cluster(27033), server():
        operator = ms.SlurmOperator(host="cluster", root=str(tmp_path / "there"), poll_s=0.1)
        flow = ms.Workflow([ms.Task("a", "cat note > out", operator="slurm", files={"note": "hi"}, outputs=["out"])])
        run = ms.initialize_run("m", flow, base_path=tmp_path, operators={"slurm": operator})

        done = as_macos(TO_A_CLUSTER, run.path, folder=tmp_path)

    assert done.stdout == "COMPLETED\n", done.stderr
    assert run.file("a", "out").read_text() == "hi"


def test_an_answer_whose_check_may_take_long_waits_for_linux(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string", "pattern": "^(a+)+b$"}}}
    flow = ms.Workflow([ms.Task("measure", operator="human", instructions="Which one?", schema=schema)])
    run = ms.initialize_run("m", flow, base_path=tmp_path, operators={"human": ms.HumanOperator()})
    run.step()
    done = as_macos(A_LONG_CHECK, run.path, folder=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "its check cannot be started on this machine" in done.stdout
    assert "MatterStack on macOS cannot check answers whose check may take long" in done.stderr
    assert run.tasks["status"].tolist() == ["SUBMITTED"]
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


def test_a_daemon_on_macos_says_that_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "workspaces/m/runs").mkdir(parents=True)
    done = as_macos("import sys\nfrom matterstack.cli import main\nsys.exit(main(['daemon', 'm']))", folder=tmp_path)
    assert done.returncode != 0
    assert "MatterStack on macOS cannot keep a daemon; it can look at runs" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_page_has_the_table() -> None:
    rows = re.findall(
        r"^\| (.+?) \| (yes|no) \| (yes|no) \| (yes|no) \|$", (ROOT / "docs/platforms.md").read_text(), re.M
    )
    systems = [platforms._PLATFORMS[name] for name in ("linux", "darwin", "win32")]
    assert [row[0] for row in rows] == list(platforms.ABILITIES)
    for ability, *said in rows:
        assert said == ["yes" if ability in system.can else "no" for system in systems], ability


def test_the_page_has_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert platforms.why_not(platforms.LOCAL) == SENTENCE
    assert SENTENCE in (ROOT / "docs/platforms.md").read_text()
    monkeypatch.setattr(sys, "platform", "win32")
    said = platforms.why_not(platforms.SLURM)
    assert said is not None
    assert said.endswith(
        "Windows cannot send commands to Slurm over ssh; it can look at runs, take answers of people, carry kits: step "
        "the run on Linux, which WSL is, where all of it goes on as it stands. See docs/platforms.md"
    )
    monkeypatch.setattr(sys, "platform", "freebsd14")
    said = "MatterStack on this operating system cannot look at runs: use Linux. See docs/platforms.md"
    assert platforms.why_not(platforms.LOOK) == said
