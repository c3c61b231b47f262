"""Checks of answers are bounded in time and memory, whatever the schema: in a file, in a cell and in the form."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crashes import in_child
from waiting import wait_for

import matterstack as ms
from matterstack.core.schemas import is_costly
from matterstack.errors import AnswerRefusedError
from matterstack.notebook.forms import RequestForm
from matterstack.operators.requests import check_apart, request_directory
from matterstack.operators.requests.answers import Reading
from matterstack.operators.requests.check_apart import NotYet, Patience

PATTERN = {"type": "object", "properties": {"x": {"type": "string", "pattern": "^(a+)+$"}}}
SLOW = json.dumps({"x": "a" * 40 + "!"})
BRANCHING = {
    "$defs": {
        "n": {
            "oneOf": [
                {"properties": {"sub": {"$ref": "#/$defs/n"}, "kind": {"const": "atom"}}},
                {"properties": {"sub": {"$ref": "#/$defs/n"}, "kind": {"const": "bond"}}, "required": ["kind"]},
            ]
        }
    },
    "$ref": "#/$defs/n",
}


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let checks take a second, by a server of the test's own; give what it was asked about."""
    monkeypatch.setattr(check_apart, "_CHECK_S", 1)
    server = check_apart._Server()
    monkeypatch.setattr(check_apart, "_server", server)
    found: list[str] = []
    true_ask = check_apart._Server.ask

    def ask(self: Any, source: str, raw: bytes, schema: Any) -> Any:
        found.append(source)
        return true_ask(self, source, raw, schema)

    monkeypatch.setattr(check_apart._Server, "ask", ask)
    yield found
    check_apart._server.stop()
    server.stop()


def questions(base: Path, number: int, schema: Any = PATTERN) -> ms.Run:
    tasks = [ms.Task(f"ask{i}", operator="human", schema=schema) for i in range(number)]
    run = ms.initialize_run("w", ms.Workflow(tasks), base_path=base, operators={"human": ms.HumanOperator()})
    run.step()
    return run


def put(run: ms.Run, number: int, content: str, name: str = "response.json") -> None:
    (run.path / f"operators/human/0.ask{number}.1/{name}").write_text(content)


def reason(run: ms.Run, number: int = 0) -> str:
    return str(run.tasks.loc[f"0.ask{number}", "reason"])


def step_until(run: ms.Run, said: str) -> None:
    """Step until the first request's reason says so; a machine that is busy may take some steps."""
    wait_for(lambda: (run.step(), said in reason(run))[1])


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"sub": value}
    return value


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        (PATTERN, json.loads(SLOW)),
        (BRANCHING, nested(60)),
        ({"type": "array", "uniqueItems": True}, [{"a": i} for i in range(20_000)]),
        ({"format": "iri"}, "http://a/" + "a" * 20_000),
        ({"patternProperties": {"^(a+)+$": {}}}, {"a" * 40 + "!": 1}),
    ],
)
def test_a_check_that_would_not_end_is_cut_off(schema: Any, answer: Any) -> None:
    reading = Patience(60).read("response.json", json.dumps(answer).encode(), schema)
    assert isinstance(reading, Reading)
    assert reading.wrong == ["it cannot be checked against its schema within 1 s"]


def test_what_is_surely_quick_needs_no_process(asked: list[str]) -> None:
    for schema in (ms.Approve(), {"properties": {"pattern": {"type": "string"}}}, {"type": "array", "items": {}}):
        assert not is_costly(schema, 1000)
        assert isinstance(Patience(0).read("response.json", b"[1]", schema), Reading)
    assert asked == []
    for schema in (
        PATTERN,
        BRANCHING,
        {"items": {"format": "date"}},
        {"$ref": "#/x"},
        {"if": {"if": {"if": {"if": {}}}}},
    ):
        assert is_costly(schema, 10)
    assert is_costly({"enum": [str(number) for number in range(10_000)]}, 10_000)
    assert is_costly({}, 200_000)


def test_many_slow_answers_hold_no_tick_and_are_each_cut_off_once(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = questions(tmp_path, 4)
    for number in range(3):
        put(run, number, SLOW)
    put(run, 3, '{"x": "aaa"}')
    with monkeypatch.context() as endless:
        endless.setattr(check_apart, "_CHECK_S", 3600)  # a tick that is held up itself may outlast a second of it
        run.step()
    assert run.tasks["status"].tolist()[:3] == ["SUBMITTED"] * 3
    for number in range(3):
        assert "response.json is there, and it" in reason(run, number), "the tick waited for none of them"
    check_apart._server.stop()
    assert run.wait(timeout_s=300) is ms.RunStatus.RUNNING
    for number in range(3):
        assert "refused answer 1 of 3: it cannot be checked against its schema within 1 s" in reason(run, number)
    assert run.tasks.loc["0.ask3", "status"] == "COMPLETED", "a good answer finds its way past them"
    before = len(asked)
    for _ in range(3):
        run.step()
    assert len(asked) == before, "what was cut off is not checked again"


def test_a_check_that_outlasts_every_process_that_steps_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from cron: each step is a process of its own, whose readers end with it."""
    monkeypatch.setattr(check_apart, "_CHECK_S", 60)
    run = questions(tmp_path, 1)
    put(run, 0, SLOW)
    for _ in range(2):
        step_until(run, "it is being checked")
        check_apart._server.stop()
    monkeypatch.setattr(request_directory, "_CHECK_BY_MANY_S", 0.0)
    step_until(run, "refused answer 1 of 3: it cannot be checked")


def test_a_cell_is_answered_within_bounds(tmp_path: Path) -> None:
    run = questions(tmp_path, 1)
    with pytest.raises(AnswerRefusedError, match="cannot be checked against its schema within 1 s"):
        run.respond("ask0", json.loads(SLOW))
    run.respond("ask0", {"x": "aa"})
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_the_form_leaves_the_event_loop_free(tmp_path: Path) -> None:
    run = questions(tmp_path, 1)
    sent: list[Any] = []

    async def use() -> None:
        form = RequestForm(run.inbox()[0], lambda _: run)
        form.send = lambda message: sent.append((message, threading.current_thread()))
        for number in range(1, 5):  # somebody types on, and only the last text is of interest
            form._heard(None, {"value": json.loads(SLOW), "submit": False, "number": number}, None)
        form._heard(None, {"value": {"x": "aa"}, "submit": True, "number": 5}, None)
        form._heard(None, {"value": {"x": "aab"}, "submit": False, "number": 6}, None)
        assert [message for message, _ in sent] == [{"outcome": "being checked …", "number": 5}]
        assert form._turn is not None
        await form._turn
        assert "answered" in form.over

    asyncio.run(asyncio.wait_for(use(), 60))
    assert {thread for _, thread in sent} == {threading.main_thread()}
    last = {message["number"]: message for message, _ in sent}
    assert list(last) == [5, 1, 6] or list(last) == [5, 6]
    assert "answered" in last[5]["outcome"]
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_a_reader_is_there_again_after_the_server_was_killed() -> None:
    for number in range(3):
        reading = Patience(60).read("response.json", b'{"x": "a%d"}' % number, PATTERN)
        assert isinstance(reading, Reading)
        assert "must match the pattern" in reading.wrong[0]
        pid = check_apart._server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_an_answer_is_not_to_blame_for_a_check_that_cannot_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = questions(tmp_path, 1)
    put(run, 0, '{"x": "aaa"}')
    check_apart._server.stop()
    with monkeypatch.context() as patch:
        patch.setattr(request_directory, "_CHECK_BY_MANY_S", 0.0)
        patch.setattr("sys.executable", "/bin/false")
        step_until(run, "its check cannot be started on this machine")
        run.step()
        assert run.tasks.loc["0.ask0", "status"] == "SUBMITTED"
        with pytest.raises(AnswerRefusedError, match="cannot be started"):
            run.respond("ask0", {"x": "aa"})
    check_apart._server.stop()
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_a_fork_has_a_server_of_its_own() -> None:
    assert isinstance(Patience(60).read("response.json", b'{"x": "a"}', PATTERN), Reading)
    before = check_apart._server.pid

    def check() -> None:
        assert isinstance(Patience(60).read("response.json", b'{"x": "aa"}', PATTERN), Reading)
        assert check_apart._server.pid != before
        check_apart._server.stop()

    assert in_child(check) == 0
    assert isinstance(Patience(60).read("response.json", b'{"x": "aaa"}', PATTERN), Reading)
    assert check_apart._server.pid == before


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    assert isinstance(Patience(0).read("response.json", SLOW.encode(), PATTERN), NotYet)
    server = check_apart._server
    group = server.pid
    assert group is not None
    server.stop()
    assert not server.jobs

    def is_gone() -> bool:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        return False

    wait_for(is_gone, "a reader goes on")


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    bomb = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("xl/sheet1.xml", "w") as sheet:
        for _ in range(101):
            sheet.write(b" " * 1_000_000)
    schema = {"type": "array", "items": {"type": "object", "properties": {"x": {}}}}
    reading = Patience(60).read("response.xlsx", bomb.read_bytes(), schema)
    assert isinstance(reading, Reading)
    assert "unpacks to 101000000 bytes" in reading.wrong[0]
