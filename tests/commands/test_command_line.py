"""Every command of the command line, as a shell calls it: its text, its document, its help, its exit code."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from rich.console import Console

import matterstack as ms
from matterstack import cli
from matterstack.commands import output, watching
from matterstack.commands.command import Command
from matterstack.core.limits import Holder
from matterstack.storage.limits import Ledger

SCHEMAS = Path(cli.__file__).parent / "commands" / "schemas"
COMMANDS = {command.name: command for command in cli.build().all}
EVIL = "\x1b]52;c;cHduZWQ=\x07[bold]ü[/bold]"
#: The words of a call of each command, in a folder that holds workspaces/w/runs/r.
CALLS: dict[str, list[str]] = {
    "runs": ["w"],
    "status": ["w/r"],
    "explain": ["w/r"],
    "step": ["w/r"],
    "wait": ["w/r"],
    "daemon": ["w", "--once"],
    "trust": ["w/r"],
    "watch": ["over/r"],
    "tasks": ["w/r"],
    "attempts": ["w/r"],
    "events": ["w/r"],
    "results": ["w/r"],
    "log": ["w/r", "good"],
    "files": ["w/r", "good"],
    "find": ["w", "ov*", "--where", "gap_eV < 2", "--columns", "name,gap_eV"],
    "preview": ["plan_of_mine:flow"],
    "inbox": ["w"],
    "respond": ["w/r", "ask", '{"ok": true}'],
    "pause": ["w/r"],
    "resume": ["w/p"],
    "cancel": ["w/r", "--reason", "enough"],
    "reopen": ["over/r"],
    "retry": ["w/r", "bad", "--memory-gib", "2"],
    "cancel-task": ["w/r", "ask"],
    "hold": ["w/r", "ask"],
    "release": ["w/r"],
    "configure": ["w/r", "--operator", "local", "max_active=3"],
    "declare-lost": ["w/p", "a"],
    "tag": ["w/r", "for the paper", "--task", "good"],
    "untag": ["w/r", "for the paper"],
    "tell": ["w/p", "hello"],
    "limits": ["lost", "oven=2"],
    "release-reservations": ["lost", "gone"],
    "pack": ["over/r"],
    "take-environment": ["w/r"],
    "kits export": ["w/r", "away.zip"],
    "kits import": ["w/r", "back.zip"],
    "export": ["w/r", "handed.zip", "--zip"],
    "verify": ["w/r"],
    "clean": ["over/r"],
    "cache list": ["cache"],
    "cache info": ["cache"],
    "cache forget": ["cache", "good"],
    "cache prune": ["cache", "--max-gib", "0"],
    "check": ["w/r"],
    "doctor": ["w"],
}
#: Called where there is what they need: tests/operators/test_late_results.py.
ELSEWHERE = {"take-late"}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run in which something is completed, has failed, and waits for a person."""
    base = tmp_path_factory.mktemp("original")
    tasks = [
        ms.Task("good", f'printf {EVIL!r}; echo \'{{"gap_eV": 1.5, "name": "ü"}}\' > result.json', cache=True),
        ms.Task("bad", "echo no >&2; exit 3", allow_failure=True),
        ms.Task("ask", operator="human", instructions=f"good? {EVIL}", schema={"type": "object", "required": ["ok"]}),
        ms.Task("kit", "true", operator="hpc"),
    ]
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator(), "hpc": ms.ManualHPCOperator()}
    run = ms.initialize_run(
        "w", ms.Workflow(tasks), base_path=base, run_id="r", operators=operators, cache=base / "cache"
    )
    run.wait(timeout_s=180)
    run.export_kits(base / "back.zip")
    run.hold("kit")
    told = {"notify": {"to": [["sh", "-c", f"cat >> {base / 'told'}"]]}}
    ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=base, run_id="p", config=told).step()
    ms.open_run(base / "workspaces/w/runs/p").pause()
    over = ms.initialize_run("over", ms.Workflow([ms.Task("a", "true")]), base_path=base, run_id="r")
    assert over.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    ms.set_limits("lost", base_path=base, furnace=1)
    fire = ms.Task("fire", operator="human", resources=ms.Resources(named={"furnace": 1}))
    human = {"human": ms.HumanOperator()}
    gone = ms.initialize_run("lost", ms.Workflow([fire]), base_path=base, run_id="gone", operators=human)
    gone.step()
    shutil.rmtree(gone.path)
    (base / "plan_of_mine.py").write_text(
        "import matterstack as ms\n"
        "flow = ms.Workflow([ms.Task('a', 'no_such_program', outputs=['x']), ms.Task('b', 'true', operator='slurm')])\n"
    )
    return base


@pytest.fixture
def place(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the present directory, which has a copy of that folder."""
    shutil.copytree(original, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    ms.trust(".")
    return tmp_path / "here"


def call(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "matterstack", *words]
    return subprocess.run(program, **{"capture_output": True, "text": True, "timeout": 180, **more})


@contextlib.contextmanager
def begun(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Begin a command that goes on; it is over at the end of the block in any case."""
    program = [sys.executable, "-m", "matterstack", *words]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def main(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Call the command line in this process."""
    capsys.readouterr()
    code = cli.main(words)
    return code, capsys.readouterr().out


def test_every_command_is_called_here_and_has_a_schema() -> None:
    assert {*CALLS, *ELSEWHERE} == set(COMMANDS)
    assert {command.schema for command in COMMANDS.values()} == {path.stem for path in SCHEMAS.glob("*.json")}


@pytest.mark.parametrize("name", CALLS)
def test_the_document_of_a_command_is_as_its_schema_says(
    name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = main(capsys, *name.split(), *CALLS[name], "--json")
    assert code in (0, 1)
    assert said.isascii(), "nothing of a stranger's acts on a terminal"
    schema = json.loads((SCHEMAS / f"{COMMANDS[name].schema}.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(json.loads(said))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_help_has_an_example_that_is_a_call(command: Command) -> None:
    assert f"example:\n  {command.example}" in command.parser.format_help()
    assert command.example.startswith(f"matterstack {command.name}")
    assert command.said.endswith(".")
    assert command.name in cli.build().parser.format_help()


def test_a_run_and_a_workspace_are_named_by_one_rule(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = place / "workspaces/w/runs/r"
    for words in (["w/r"], [str(run)], ["workspaces/w/runs/r"], ["w/r", "--base-path", str(place)]):
        assert main(capsys, "status", *words)[1].startswith("Run r of w:"), words
    for words in (["w"], ["workspaces/w"], [str(run.parents[1])]):
        assert main(capsys, "runs", *words)[1].splitlines()[2].split()[:2] == ["w", "r"], words
    assert [line.split()[:2] for line in main(capsys, "runs")[1].splitlines()[1:]] == [
        ["over", "r"],
        ["w", "p"],
        ["w", "r"],
    ]
    os.chdir("/")
    missing = call("status", "w/r")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith(
        "matterstack: RunNotFoundError: there is no run at /w/r, and none called 'w/r' in /workspaces"
    )
    assert missing.stderr.splitlines()[1:] == ["See docs/troubleshooting.md#runnotfounderror"]
    assert len(call("status", "w/r", "--json").stderr.splitlines()) == 1, "a program gets the message alone"
    assert "as in --group relax" in call("hold", "w/r", "--base-path", str(place)).stderr
    (place / "handed.zip").touch()
    assert "unzip it first" in call("verify", str(place / "handed.zip")).stderr
    assert "matterstack runs w lists" in call("status", "w/s", "--base-path", str(place)).stderr
    assert "did you mean 'w'" in call("runs", "ww", "--base-path", str(place)).stderr


def test_a_workspace_that_cannot_be_read_hides_no_other(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "workspaces/none").mkdir()
    (place / "workspaces/w2").mkdir()
    (place / "workspaces/w2/runs").write_text("no folder")
    done = call("runs")
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 4)
    assert done.stderr.startswith("matterstack: the workspace w2 cannot be read: ")
    assert len(done.stderr.splitlines()) == 1
    assert list(json.loads(main(capsys, "runs", "--json")[1])["unread"]) == ["w2"], "a program sees it as well"
    assert main(capsys, "runs", "w2")[0] == 1


def test_wrong_words_and_the_version() -> None:
    wrong = call("stauts", "w/r")
    assert (wrong.returncode, "(did you mean 'status'?)" in wrong.stderr) == (2, True)
    alone = call()
    assert (alone.returncode, alone.stdout) == (2, "")
    assert "Look at runs:" in alone.stderr, "somebody who knows no command sees all of them"
    unknown = call("tasks", "w/r", "--stat", "FAILED")
    assert unknown.returncode == 2, "no option is abbreviated"
    assert unknown.stderr.startswith("usage: matterstack tasks [-h]"), "that of the command, where its options stand"
    assert unknown.stderr.endswith("unrecognized arguments: --stat (did you mean '--status'?), FAILED\n")
    assert call("cache", "prune", "c", "--max-gb=1").stderr.startswith("usage: matterstack cache prune [-h]")
    for table, known in (("tasks", "'CANCELLED'"), ("attempts", "'LOST'")):
        done = call(table, "w/r", "--status", "DONE")
        assert (done.returncode, done.stdout) == (2, "")
        assert "invalid choice: 'DONE' (choose from" in done.stderr
        assert known in done.stderr
    assert call("--version").stdout == f"matterstack {ms.__version__}\n"


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_standard_stream_that_is_closed_is_no_error_and_no_file_gets_its_number(closed: str, place: Path) -> None:
    command = f"{sys.executable} -m matterstack step w/p {closed}; echo $?"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=180)
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0", ""), done
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m matterstack respond w/r ask - {closed}"],
        capture_output=True,
        text=True,
        timeout=180,
        input="{}",
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done
    assert ms.open_run("workspaces/w/runs/r").store.check() == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["log", "w/r", "\udcff"], 1, "UnknownTaskError: there is no task '\\udcff' in iteration 0"),
        (["hold", "w/r", "\udcff"], 1, "UnknownTaskError: there is no task '\\udcff' in iteration 0"),
        (["log", "w/r", "good", "--iteration", "9" * 30], 1, f"UnknownTaskError: there is no iteration {'9' * 30}; "),
        (["retry", "w/r", "bad", "--iteration", "9" * 30], 1, f"UnknownTaskError: there is no iteration {'9' * 30}; "),
        (["kits", "export", "w/r", "."], 1, "is a directory, and not a name for an archive; no kit was exported"),
        (["kits", "export", "w/r", ""], 1, "is a directory, and not a name for an archive; no kit was exported"),
        (["trust", ""], 2, "RUN is empty: name a run, or a folder; . is the present one"),
        (["status", "w/r", EVIL], 2, "unrecognized arguments: \\x1b]52;c;cHduZWQ=\\x07[bold]ü[/bold]\n"),
    ],
)
def test_words_that_make_no_sense_are_told_without_a_traceback(
    words: list[str], code: int, said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        ended = cli.main(words)
    except SystemExit as end:
        ended = end.code
    told = capsys.readouterr().err
    assert (ended, said in told) == (code, True), told


def test_who_stops_reading_is_no_error(place: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = call("status", "w/r", capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


# -- what people see ----------------------------------------------------------------------------


def in_a_terminal(words: list[str], columns: int = 100, **variables: str) -> str:
    """Return what a command writes to a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    environment |= {"TERM": "xterm-256color", **variables}
    program = [sys.executable, "-m", "matterstack", *words]
    process = subprocess.Popen(program, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # what a terminal says at its end
        while chunk := os.read(ours, 65536):
            said += chunk
    os.close(ours)
    assert process.wait(timeout=180) == 0, said
    return said.decode()


def test_a_table_is_drawn_in_a_terminal_and_aligned_elsewhere(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = in_a_terminal(["tasks", "w/r"])
    plain = in_a_terminal(["tasks", "w/r"], NO_COLOR="1").replace("\r\n", "\n")
    assert "\x1b[32mCOMPLETED" in drawn
    assert "─────" in drawn
    assert plain == main(capsys, "tasks", "w/r")[1]
    head, *lines = plain.splitlines()
    column = head.index("status")
    assert [line[column:].split()[0] for line in lines] == ["COMPLETED", "FAILED", "SUBMITTED", "SUBMITTED"]


def drawn_in(columns: int, table: output.Table) -> list[str]:
    console = Console(width=columns, file=io.StringIO(), highlight=False)
    console.print(output.rich_table(table, columns))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("columns", [20, 40, 80, 120, 200])
def test_a_terminal_shows_all_of_names_and_reasons_however_narrow(columns: int) -> None:
    name, reason = "with_a_long_name_of_its_own_2026-11-30", "exit code 3; stderr ends with: ZBRENT, a fatal error"
    names = ("iteration", "task_id", "n", "other", "status", "reason")
    rows: list[dict[str, Any]] = [dict(zip(names, (0, name, 3, "o" * 50, "COMPLETED", reason), strict=True))]
    lines = drawn_in(columns, output.Table(names, rows, spare=("n",)))
    assert max(map(output._width, lines)) <= columns
    head = next(at for at, line in enumerate(lines) if line.startswith("──"))
    hidden = next(at for at, line in enumerate([*lines, "There is no room"]) if line.startswith("There is no room"))
    starts = [at for at, c in enumerate(lines[head - 1]) if c != " " and lines[head - 1][at - 1 : at].strip() == ""]
    texts = [
        "".join(line[one:other] for line in lines[head + 1 : hidden]).replace(" ", "")
        for one, other in zip(starts, [*starts[1:], None], strict=True)
    ]
    for text in (name, "COMPLETED", reason.replace(" ", "")):
        assert text in texts, lines
    said = " ".join(lines[hidden:])
    assert ("other" in said, "n," in said) == (columns < 120, columns < 120), "what is spare goes first"


def test_a_command_says_what_a_narrow_terminal_has_no_room_for(place: Path) -> None:
    said = in_a_terminal(["attempts", "w/r"], 60)
    assert "There is no room for" in said
    assert "exit_code" in said.partition("There is no room for")[2]
    assert "There is no room" not in in_a_terminal(["attempts", "w/r"], 250)


def test_text_of_strangers_is_only_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    program = (
        f'printf \'%s\' {shlex.quote(EVIL)} >&2; printf \'{{"x": "[red]%s", "y": "\\\\u001b[31m"}}\' ü > result.json'
    )
    flow = ms.Workflow([ms.Task("good", program), ms.Task("bad", f"{program}; exit 1", allow_failure=True)])
    ms.initialize_run("w", flow, base_path=tmp_path, run_id="r").wait(timeout_s=180)
    for words in (["tasks", "w/r"], ["results", "w/r"], ["log", "w/r", "good", "--stderr"], ["explain", "w/r"]):
        said = in_a_terminal(words)
        assert "\x1b]52" not in said, words
        assert "\x07" not in said, words
    strange = tmp_path / "workspaces/w/runs" / f"r{EVIL.partition('[')[0]}"
    strange.mkdir()
    (strange / "state.sqlite").write_bytes(b"no database")
    code, said = main(capsys, "doctor", "w")
    assert code == 1
    assert "cannot be read" in said
    assert "\x1b]52" not in said
    assert "[bold]ü[/bold]" in in_a_terminal(["tasks", "w/r"]).replace("\r\n", "").replace("  ", "")
    assert "[red]ü" in in_a_terminal(["results", "w/r"])
    assert "\x1b" not in in_a_terminal(["results", "w/r", "--csv"])


def test_wide_text_stays_aligned() -> None:
    rows: list[dict[str, Any]] = [{"a": "日本", "b": 1}, {"a": "é", "b": None}, {"a": "e\u0301e", "b": True}]
    assert output._aligned(output.Table(["a", "b"], rows)) == "a     b\n日本  1\né\ne\u0301e    yes"


def test_a_log_is_followed_until_its_attempt_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "gate")
    run = ms.initialize_run(
        "w", ms.Workflow([ms.Task("a", f"echo one; cat {tmp_path}/gate; echo three")]), base_path=tmp_path, run_id="r"
    )
    run.step()
    with begun("log", "w/r", "a", "-f") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "one\n"
        (tmp_path / "gate").write_text("two\n")
        assert following.stdout.readline() == "two\n"
        run.wait(timeout_s=180)
        assert following.stdout.read() == "three\n"
        assert following.wait(timeout=180) == 0


def test_a_log_that_is_begun_anew_is_followed_from_its_beginning_until_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flow = ms.Workflow([ms.Task("a", f"echo a long line; cat {tmp_path}/gate")])
    os.mkfifo(tmp_path / "gate")
    run = ms.initialize_run("w", flow, base_path=tmp_path, run_id="r")
    run.step()
    with begun("log", "w/r", "a", "-f") as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert following.stdout.readline() == "a long line\n"
        (run.path / "operators/local/0.a.1/stdout.txt").write_text("anew\n")
        assert following.stdout.readline() == "anew\n"
        following.send_signal(signal.SIGINT)
        assert following.stderr.read() == "matterstack: stopped following; the task goes on\n"
        assert following.wait(timeout=180) == 130
    (tmp_path / "gate").write_text("")
    run.wait(timeout_s=180)


def test_watching_tells_what_moves_and_ends_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path, run_id="r")
    with begun("watch", "w/r") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "r PENDING: iteration 0, 0 of 1 tasks completed, 0 failed\n"
        run.wait(timeout_s=180)
        assert process.stdout.read().endswith("r COMPLETED: iteration 0, 1 of 1 tasks completed, 0 failed\n")
        assert process.wait(timeout=180) == 0
    assert "\x1b[32mCOMPLETED" in in_a_terminal(["watch", "w"])


def test_watching_says_nothing_where_nothing_has_moved(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    over = watching._row(place / "workspaces/over/runs/r")
    looks = iter([over | {"status": status} for status in ("PENDING", "PENDING", "RUNNING", "RUNNING", "COMPLETED")])
    monkeypatch.setattr(watching, "_row", lambda path: next(looks))
    monkeypatch.setattr(watching, "_LOOK_EACH_S", 0)
    code, said = main(capsys, "watch", "over/r")
    assert (code, [line.split()[1] for line in said.splitlines()]) == (0, ["PENDING:", "RUNNING:", "COMPLETED:"])


def test_ctrl_c_says_what_it_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path, run_id="r")
    with begun("watch", "w/r") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("r PENDING")
        assert process.stderr is not None
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "matterstack: stopped watching; nothing else was stopped\n"
        assert process.wait(timeout=180) == 130


def completed(typed: str, place: Path) -> set[str]:
    """Return what a shell offers for the last word, as bash asks for it."""
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_SHELL": "bash",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(place / "offered"),
        "COMP_LINE": typed,
        "COMP_POINT": str(len(typed.encode())),
        "COMP_TYPE": "9",
    }
    call(env=environment)
    return set((place / "offered").read_text().split("\v"))


def test_a_shell_completes_commands_runs_and_tasks(place: Path) -> None:
    assert {"status", "step", "kits"} <= completed("matterstack ", place)
    assert completed("matterstack stat", place) == {"status"}
    assert completed("matterstack kits ex", place) == {"export"}
    assert completed("matterstack runs ", place) >= {"w", "over"}
    assert completed("matterstack status w", place) >= {"w/r", "w/p"}
    assert completed("matterstack log w/r ", place) >= {"good", "bad", "ask", "kit"}
    assert completed("matterstack hold w/r ki", place) == {"kit"}
    assert not {"good", "bad"} & completed("matterstack log no/such ", place)


def test_a_reader_of_one_line_is_no_error(place: Path) -> None:
    flow = ms.Workflow([ms.Task(f"t{n}", "true") for n in range(3000)])
    ms.initialize_run("w", flow, base_path=place, run_id="many")
    command = f"{sys.executable} -m matterstack tasks w/many | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=180)
    head, code = done.stdout.splitlines()
    assert (head.split()[:2], code, done.stderr) == (["iteration", "task_id"], "141", "")


def test_looking_needs_no_operator_no_campaign_and_no_trust(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((place / "workspaces/w/runs/r/config.json").read_text())
    config |= {"operators": {**config["operators"], "hpc": None}, "campaign": "no_such_module:Campaign"}
    (place / "workspaces/w/runs/r/config.json").write_text(json.dumps(config))
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "another_home"))
    for name in ("runs", "status", "explain", "tasks", "attempts", "events", "results", "log", "files", "check"):
        assert main(capsys, name, *CALLS[name])[0] == 0, name
    assert main(capsys, "step", "w/r")[0] == 1


@pytest.mark.parametrize("name", ["runs", "status", "explain", "tasks", "attempts", "events", "results"])
def test_looking_is_quick_since_nothing_heavy_is_loaded(name: str, place: Path) -> None:
    heavy = ("pandas", "numpy", "rich", "networkx", "ipywidgets", "argcomplete", "jsonschema")
    program = f"import sys; from matterstack import cli; code = cli.main({[name, *CALLS[name]]!r}); "
    program += f"print([name for name in {heavy} if name in sys.modules], code, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=180)
    assert done.stderr == "[] 0\n"


# -- what is typed reaches the run --------------------------------------------------------------


@pytest.mark.parametrize("words", [['{"ok": 1}'], ["--iteration", "0", '{"ok": 1}'], ["--file", "answer.json"], ["-"]])
def test_an_answer_comes_as_a_word_from_a_file_or_from_a_pipe(words: list[str], place: Path) -> None:
    (place / "answer.json").write_text('{"ok": 1}')
    done = call("respond", "w/r", "ask", *words, input='{"ok": 1}')
    assert (done.returncode, done.stdout) == (0, "Answered: the next step takes it up.\n"), done.stderr
    ms.open_run("workspaces/w/runs/r").step()
    assert '"ok": 1' in call("results", "w/r", "--json").stdout
    assert call("results", "w/r", "--function", "fit").stdout == "No call of 'fit' has given anything yet.\n"


def test_an_answer_that_is_none(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(capsys, "respond", "w/r", "ask", "{}")[0] == 1, "the schema wants more"
    assert main(capsys, "respond", "w/r", "ask", "{")[0] == 1
    for file, why in (("none.json", "No such file or directory"), (".", "Is a directory")):
        assert cli.main(["respond", "w/r", "ask", "--file", file]) == 1
        said = f"matterstack: AnswerRefusedError: --file {file} cannot be read: {why}; nothing was answered\n"
        assert capsys.readouterr().err.startswith(said)
    for words in ([], ["{}", "--file", "answer.json"]):
        with pytest.raises(SystemExit, match="2"):
            main(capsys, "respond", "w/r", "ask", *words)


def test_a_mend_a_hold_and_settings(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "new.in").write_text("new")
    words = ["--memory-gib", "2", "--env", "A=b", "--file", "x.in=new.in", "--command", "cat x.in > result.txt"]
    assert main(capsys, "retry", "w/r", "bad", *words)[0] == 0
    assert main(capsys, "step", "w/r")[0] == 0
    attempts = json.loads(main(capsys, "attempts", "w/r", "--json")[1])["attempts"]
    (changes,) = [row["changes"] for row in attempts if row["task_id"] == "bad" and row["attempt"] == 2]
    assert changes["resources"]["memory_gib"] == 2
    assert changes["env"] == {"A": "b"}
    assert changes["command"] == "cat x.in > result.txt"
    assert list(changes["files"]) == ["x.in"]
    held = {row["task_id"]: row["held"] for row in json.loads(main(capsys, "tasks", "w/r", "--json")[1])["tasks"]}
    assert [name for name, is_held in held.items() if is_held] == ["kit"]
    assert main(capsys, "release", "w/r", "kit")[0] == 0
    assert main(capsys, "hold", "w/r", "ask", "--reason", "later")[0] == 0
    held = {row["task_id"]: row["held"] for row in json.loads(main(capsys, "tasks", "w/r", "--json")[1])["tasks"]}
    assert [name for name, is_held in held.items() if is_held] == ["ask"]
    assert main(capsys, "configure", "w/r", "--budget", "tasks=7", "wall_h=null")[0] == 0
    assert main(capsys, "configure", "w/r", "--operator", "local", "max_active=3")[0] == 0
    assert main(capsys, "configure", "w/r", 'notify={"to": ["true"], "remind_h": 3}')[0] == 0
    assert main(capsys, "configure", "w/r", "max_active=3")[0] == 1, "of whom?"
    config = json.loads((place / "workspaces/w/runs/r/config.json").read_text())
    assert "remind_h" in json.dumps(config["settings"]["notify"])
    assert config["settings"]["budget"]["tasks"] == 7
    assert config["operators"]["local"]["settings"]["max_active"] == 3
    with pytest.raises(SystemExit):
        main(capsys, "configure", "w/r", "--operator", "local", "max_active=three")


def test_a_mend_is_taken_back(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(capsys, "retry", "w/r", "bad", "--env", "A=b")[0] == 0
    assert main(capsys, "wait", "w/r", "--timeout-s", "180")[0] == 0
    assert main(capsys, "retry", "w/r", "bad", "--as-planned")[0] == 0
    assert main(capsys, "step", "w/r")[0] == 0
    attempts = json.loads(main(capsys, "attempts", "w/r", "--json")[1])["attempts"]
    assert [bool(row["changes"]) for row in attempts if row["task_id"] == "bad"] == [False, True, False]


def limits_of(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(main(capsys, "limits", *words, "--json")[1])["limits"]}


def test_limits_are_shown_set_and_given_back(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(capsys, "limits", "w") == (0, "The workspace has no limits.\n")
    held = limits_of(capsys, "lost", "oven=2")
    assert [(row["amount"], row["held"]) for row in held.values()] == [(1, 1), (2, 0)]
    assert [one["run_id"] for one in held["furnace"]["by"]] == ["gone"]
    assert main(capsys, "limits", "lost")[1].splitlines()[1].split() == ["furnace", "1", "1", "gone", "(1)"]
    assert list(limits_of(capsys, "lost", "oven=null")) == ["furnace"]
    assert main(capsys, "release-reservations", "lost", "gone")[0] == 0
    assert limits_of(capsys, "lost")["furnace"]["held"] == 0
    assert main(capsys, "release-reservations", "lost", "gone")[0] == 1
    for wrong in ("oven=1.5", "oven=-1", "Oven=1", "oven=true"):
        assert main(capsys, "limits", "lost", wrong)[0] == 1, wrong
    for wrong in ("oven", "oven=two", "=1", "base_path=1"):
        with pytest.raises(SystemExit, match="2"):
            main(capsys, "limits", "lost", wrong)
    assert list(limits_of(capsys, "lost")) == ["furnace"], "what was refused has changed nothing"


def test_who_watches_sees_what_waits_for_a_limit_and_who_holds_it(place: Path) -> None:
    fire = [ms.Task(f"fire-{n}", operator="human", resources=ms.Resources(named={"furnace": 1})) for n in range(2)]
    ask = ms.Task("ask", operator="human")
    run = ms.initialize_run(
        "lost", ms.Workflow([ask, *fire]), base_path=place, run_id="r", operators={"human": ms.HumanOperator()}
    )
    run.step()
    shown = watching._tasks(run.path, run.store).rows
    assert [(row["task_id"], row["status"]) for row in shown] == [
        ("fire-0", "PENDING"),
        ("fire-1", "PENDING"),
        ("ask", "WAITING"),
    ]
    assert "furnace" in shown[0]["reason"]
    assert "gone" in shown[0]["reason"], "who holds it"


def test_limits_are_those_that_a_cell_shows_also_of_a_cluster(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(capsys, "limits", "lost", "slurm_jobs=2", "slurm_jobs@lab=0")[0] == 0
    for run, wanted in {"a": 1, "b": 2}.items():
        with Ledger(place / "workspaces/lost").granting(Holder(run, f"runs/{run}", 1.0), time.time()) as granting:
            assert bool(granting.ask(f"ms-{run}", "0.t.1", {"slurm_jobs@hpc": wanted}, 0)) is (run == "a")
    shown = limits_of(capsys, "lost")
    assert (shown["slurm_jobs@hpc"]["amount"], shown["slurm_jobs@hpc"]["held"]) == (2, 1)
    assert shown["slurm_jobs@hpc"]["waiting"] == ["b"]
    assert {name: row["amount"] for name, row in shown.items()} == dict(
        ms.limits("lost").set_index("name")["amount"].items()
    )


def test_limits_make_a_workspace_only_where_that_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(capsys, "limits", "wl", "furnace=1")[0] == 1
    assert main(capsys, "limits", "wl", "--new")[0] == 1, "there is nothing to set"
    assert not (place / "workspaces/wl").exists()
    assert list(limits_of(capsys, "wl", "--new", "furnace=1")) == ["furnace"]
    assert main(capsys, "runs", "wl") == (0, "There are no runs.\n")
    assert len(ms.runs("wl")) == 0


def test_tags_find_a_run_and_a_task_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(capsys, "tag", "w/r", "x", "--task", "good", "--task", "bad", "for the paper")[0] == 0
    assert main(capsys, "untag", "w/r", "x", "--task", "bad")[0] == 0
    found = json.loads(main(capsys, "find", "w", "--tag", "x", "--json")[1])["tasks"]
    assert [(row["task_id"], row["tags"]) for row in found] == [("good", ["x", "for the paper"])]
    assert main(capsys, "tag", "w/p", "mine")[0] == 0
    assert ms.open_run("workspaces/w/runs/p").tags == ("mine",)
    assert main(capsys, "tag", "w/p", "a,b")[0] == 1
    assert main(capsys, "tag", "w/p", "a", "--task", "none")[0] == 1


def test_a_notice_of_ones_own_gets_there_or_it_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = place / "told"
    sink = json.dumps({"to": [["sh", "-c", f"cat > {told}"]]})
    assert main(capsys, "configure", "w/p", f"notify={sink}")[0] == 0
    assert main(capsys, "tell", "w/p", "the furnace is down")[0] == 0
    assert "the furnace is down" in told.read_text()
    assert main(capsys, "tell", "w/r")[0] == 1, "it tells nobody"
    assert main(capsys, "configure", "w/p", 'notify={"to": [["false"]]}')[0] == 0
    assert main(capsys, "tell", "w/p")[0] == 1


def test_what_nobody_can_be_asked_about_is_lost_on_a_word(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(capsys, "declare-lost", "w/p", "a")[0] == 0
    rows = json.loads(main(capsys, "attempts", "w/p", "--json")[1])["attempts"]
    assert [(row["status"], row["reason"]) for row in rows] == [("LOST", "declared lost by a person")]
    assert main(capsys, "declare-lost", "w/p", "a")[0] == 1


def test_a_run_goes_on_in_what_a_shell_has(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "elsewhere").mkdir()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    program = Path(sys.prefix, "bin", "matterstack")
    words = [sys.executable, str(program), "take-environment", "w/r", "--base-path", ".."]
    done = subprocess.run(words, cwd=place / "elsewhere", capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    made_in = json.loads((place / "workspaces/w/runs/r/config.json").read_text())["environment"]
    assert (made_in["folder"], made_in["variables"]["OMP_NUM_THREADS"]) == (str(place / "elsewhere"), "7")


def test_words_stand_before_and_after_options(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(capsys, "hold", "w/r", "--reason", "later", "ask", "--json", "kit")[0] == 0
    rows = json.loads(main(capsys, "tasks", "--json", "w/r")[1])["tasks"]
    assert [row["task_id"] for row in rows if row["held"]] == ["ask", "kit"]
    for words in (["status", "w/r", "--json", "w/p"], ["hold", "w/r", "--nothing", "ask"], ["log", "w/r", "--json"]):
        with pytest.raises(SystemExit, match="2"):
            main(capsys, *words)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["respond", "w/r"])
    assert "the following arguments are required: TASK\n" in capsys.readouterr().err
    for name in ("hold", "retry"):
        with pytest.raises(SystemExit, match="2"):
            cli.main([name])
        assert "the following arguments are required: RUN\n" in capsys.readouterr().err, "of tasks there may be none"


def test_a_cache_is_there_or_it_is_said_where_it_was_looked_for(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = main(capsys, "cache", "list", "cache")[1].splitlines()
    assert [line.split()[:3] for line in listed] == [["name", "run", "attempt"], ["printf", "r", "0.good.1"]]
    entry = json.loads(main(capsys, "cache", "list", "cache", "--json")[1])["entries"][0]
    names = [{"name": "printf", "entries": 1, "files": 1, "bytes": entry["bytes"]}]
    assert entry["bytes"] > 0
    assert json.loads(main(capsys, "cache", "info", "cache", "--json")[1]) == {"names": names}
    for words in (["list"], ["info"], ["forget", "good"], ["prune"]):
        for none in ("cahce", "."):
            assert cli.main(["cache", words[0], none, *words[1:]]) == 1
            assert f"there is no cache at {place / none}: DIRECTORY is what" in capsys.readouterr().err
    assert not (place / "cahce").exists()
    assert main(capsys, "cache", "forget", "cache", "printf") == (0, "Removed 1 entry.\n")
    assert main(capsys, "cache", "list", "cache") == (0, "The cache holds nothing.\n")


def test_a_plan_is_previewed_with_the_operators_that_its_module_has(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "asking.py").write_text(
        "import matterstack as ms\n"
        "flow = ms.Workflow([ms.Task('ask', operator='human', instructions='good?', schema={'type': 'object'})])\n"
        "def operators():\n    print('made')\n    return {'human': ms.HumanOperator()}\n"
    )
    assert main(capsys, "preview", "asking:flow")[0] == 1, "it has no operator of that name"
    code, said = main(capsys, "preview", "asking:flow", "--operators", "asking:operators", "--json")
    assert (code, json.loads(said)["findings"]) == (0, []), "what the module prints is no part of the document"


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("nosuch:flow", "nosuch:flow cannot be made: there is no module 'nosuch' in {place}, nor where Python finds"),
        ("os.nosuch:flow", "os.nosuch:flow cannot be made: there is no module 'os.nosuch' in "),
        ("plan_of_mine:flwo", "plan_of_mine:flwo cannot be made: plan_of_mine has no 'flwo' (did you mean 'flow'?)"),
        ("plan_of_mine", "'plan_of_mine' is no MODULE:NAME, as in screening:campaign"),
        (".plan_of_mine:flow", "'.plan_of_mine:flow' is no MODULE:NAME"),
        ("wanting:flow", "No module named 'not_installed', at <module>, line 1 of wanting.py: import not_installed\n"),
    ],
)
def test_a_plan_that_cannot_be_imported_is_named(
    plan: str, said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "wanting.py").write_text("import not_installed\n")
    capsys.readouterr()
    code = cli.main(["preview", plan])
    told = capsys.readouterr().err
    assert (code, said.format(place=place) in told) == (1, True), told
    assert ("Traceback" in told) == (plan == "wanting:flow"), "a traceback is shown of code, not of a name"


def test_ctrl_c_while_python_imports_is_no_error_of_the_command() -> None:
    stopped = (
        "import runpy, sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.startswith('matterstack.'): raise KeyboardInterrupt\n"
        "import matterstack.__main__\n"
        "sys.meta_path.insert(0, Stop())\n"
        "sys.exit(matterstack.__main__.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", stopped, "runs"], capture_output=True, text=True, timeout=180)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "matterstack: interrupted\n")
    settings = tomllib.loads((Path(cli.__file__).parents[1] / "pyproject.toml").read_text())
    assert settings["project"]["scripts"] == {"matterstack": "matterstack.__main__:main"}
    whole = subprocess.run(
        [sys.executable, "-m", "matterstack", "--version"], capture_output=True, text=True, timeout=180
    )
    assert whole.stdout == f"matterstack {ms.__version__}\n"


def test_cleaning_shows_first(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flow = ms.Workflow([ms.Task("a", f"test -e {place}/gate")])
    run = ms.initialize_run("w", flow, base_path=place, run_id="tried")
    assert run.wait(timeout_s=180) is ms.RunStatus.FAILED
    first = run.task_directory("a")
    (place / "gate").touch()
    assert run.retry().wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert "Nothing was removed: --do removes it." in main(capsys, "clean", "w/tried")[1]
    assert first.exists()
    assert "There is nothing to remove." in main(capsys, "clean", "w/tried", "--no-earlier-attempts", "--do")[1]
    assert "Removed." in main(capsys, "clean", "w/tried", "--do")[1]
    assert not first.exists()
