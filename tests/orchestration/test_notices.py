"""Whom a run tells is told once of each thing, whatever is killed; and nothing of that does the run any harm."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import told
from crashes import ENDED, in_child, killed_at
from no_skips import NOT_REQUIRED
from test_daemon import daemon
from test_run_lifecycle_scale import Completer, counted
from told import all_sent, came, journal, writes
from waiting import alive, wait_for

import matterstack as ms
from matterstack import crash_points as testing
from matterstack.core.attempts import Attempt, Observation
from matterstack.core.notices import Notice
from matterstack.errors import (
    InvalidConfigError,
    MissingLibraryError,
    NoticeError,
    OperatorUnreachableError,
    StoreUnwritableError,
    UntrustedRunError,
)
from matterstack.notices import outbox, sender
from matterstack.notices.outbox import Errand, Standing
from matterstack.notices.sinks import Notify, name_of
from matterstack.orchestration import loop, teller, telling
from matterstack.storage.reader import StoreReader
from matterstack.storage.state_store import SQLiteStateStore

FAILS = ms.Task("bad", "echo 'no license' >&2; exit 3")
NOTICE = Notice(1, ("trial",), "a title", "a text", "w", "r", "/r", 0.0)


def make(base: Path, *tasks: ms.Task, notify: object = None, **named: Any) -> ms.Run:
    config = {**named.pop("config", {}), "notify": writes(base / "told") if notify is None else notify}
    return ms.initialize_run("w", ms.Workflow(tasks), base_path=base, run_id="r", config=config, **named)


def reopen(base: Path) -> ms.Run:
    return ms.open_run(base / "workspaces/w/runs/r")


def asks(number: int) -> list[ms.Task]:
    return [ms.Task(f"ask{n}", operator="human", instructions="Is it blue?") for n in range(number)]


HUMAN = {"human": ms.HumanOperator(), "local": ms.LocalOperator()}


def kinds(base: Path) -> list[list[str]]:
    return [said["kinds"] for said in sorted(came(base / "told"), key=lambda said: int(said["number"]))]


def test_a_run_that_fails_or_completes_says_so_once_with_the_reason(tmp_path: Path) -> None:
    run = make(tmp_path, FAILS, ms.Task("good", "true"))
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    wait_for(lambda: all_sent(run))
    for again in (run, reopen(tmp_path), run):
        again.step()
    wait_for(lambda: all_sent(run))
    (said,) = [one for one in came(tmp_path / "told") if "failed" in one["kinds"]]
    assert said["title"].startswith("w/r: FAILED")
    assert "no license" in "".join(one["text"] for one in came(tmp_path / "told"))
    run.retry("bad", command="true")
    assert reopen(tmp_path).wait(timeout_s=60) is ms.RunStatus.COMPLETED
    wait_for(lambda: all_sent(run))
    run.step()
    assert [one["title"] for one in came(tmp_path / "told")][-1] == "w/r: COMPLETED"
    numbers = [one["number"] for one in came(tmp_path / "told")]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert sum("sent" in row for row in journal(run)) == len(numbers)


def test_what_is_tried_again_or_allowed_is_no_news(tmp_path: Path) -> None:
    again = ms.Task("again", '[ "$MATTERSTACK_ATTEMPT" = 2 ]', retries=1)
    run = make(tmp_path, again, ms.Task("may", "exit 1", allow_failure=True))
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    wait_for(lambda: all_sent(run))
    assert kinds(tmp_path) == [["completed"]]


def test_sixty_requests_are_one_notice_and_those_that_fail_together_too(tmp_path: Path) -> None:
    fake = Completer(50)
    fake.ok = False
    failing = [ms.Task(f"t{n}", "true", operator="fake") for n in range(50)]
    run = make(tmp_path, *asks(60), *failing, operators={"human": ms.HumanOperator(), "fake": fake})
    for _ in range(5):
        run.step()
    wait_for(lambda: run.step() and all_sent(run))
    first, last = sorted(came(tmp_path / "told"), key=lambda said: int(said["number"]))
    assert first["title"] == "w/r: 60 requests at human wait"
    assert "and 55 more" in first["text"]
    assert last["title"] == "w/r: 50 tasks failed"
    assert all(len(one["text"]) < 3000 for one in (first, last))


def test_who_has_to_say_what_to_do_or_to_carry_a_kit_is_told(tmp_path: Path) -> None:
    tasks = [ms.Task("doubt", "exit 1", on_failure="ask"), ms.Task("kit", "true", operator="hpc")]
    operators = {"hpc": ms.ManualHPCOperator(), "local": ms.LocalOperator()}
    run = make(tmp_path, *tasks, operators=operators)
    run.wait(timeout_s=60)
    wait_for(lambda: all_sent(run))
    text = "".join(said["text"] for said in came(tmp_path / "told"))
    assert {kind for said in kinds(tmp_path) for kind in said} == {"needs_you"}
    assert "a request at hpc waits" in text
    assert "a task failed and asks what to do" in text


def test_failures_that_come_one_after_the_other_are_told_together_while_somebody_looks_again(tmp_path: Path) -> None:
    fake = Completer(1)
    fake.ok = False
    run = make(tmp_path, *(ms.Task(f"t{n}", "true", operator="fake") for n in range(9)), operators={"fake": fake})
    while run.step().status is ms.RunStatus.RUNNING:
        pass
    wait_for(lambda: all_sent(run))
    first, last = sorted(came(tmp_path / "told"), key=lambda said: int(said["number"]))
    assert first["title"] == "w/r: a task failed"
    assert last["title"] == "w/r: FAILED; 8 tasks failed"


# -- once, over crashes -------------------------------------------------------------------------------


def failed(base: Path) -> None:
    """The task has ended, and no tick has seen that."""
    run = make(base, FAILS)
    run.step()
    assert loop.sleep(run._session, 30)


def conclude(base: Path) -> None:
    reopen(base).step()


def test_killed_at_each_point_of_the_tick_that_tells_it_is_told_once(tmp_path: Path) -> None:
    killed = set()
    points = {"notices.written": 1, "notices.told": 1, "notices.started": 1, "store.commit": 3, "store.committed": 3}
    for point, hits in points.items():
        for hit in range(1, hits + 1):
            base = tmp_path / f"{point}.{hit}"
            base.mkdir()
            failed(base)
            if killed_at(point, hit, lambda base=base: conclude(base)):  # type: ignore[misc]
                killed.add(point)
            run = reopen(base)
            wait_for(lambda run=run: run.step().status is ms.RunStatus.FAILED)  # type: ignore[misc]
            wait_for(lambda run=run: all_sent(run))  # type: ignore[misc]
            run.step()
            wait_for(lambda run=run: all_sent(run))  # type: ignore[misc]
            assert sum("failed" in one["kinds"] for one in came(base / "told")) == 1, point
            assert sum("FAILED" in row for row in journal(run)) == 1, point
    assert {"notices.written", "notices.told", "notices.started"} <= killed


@pytest.mark.parametrize(("point", "sent"), [("notices.claimed", 0), ("notices.sent", 1), ("notices.ended", 1)])
def test_who_sends_is_killed_and_nobody_sends_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, sent: int
) -> None:
    run = make(tmp_path, ms.Task("a", "true"))
    monkeypatch.setenv(testing.VARIABLE, f"kill:{point}:1")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    claim = run.path / "notices/000001.0.1.claim"
    wait_for(lambda: claim.exists() and not _lives(claim))
    monkeypatch.delenv(testing.VARIABLE)
    run.step()
    os.utime(claim, (0, 0))
    for again in (run, reopen(tmp_path), run):
        again.step()
    wait_for(lambda: len(list(run.path.glob("notices/*.claim"))) == 1)
    assert len(came(tmp_path / "told")) == sent
    last = "sent" if point == "notices.ended" else "not known whether it was sent"
    assert last in journal(run)[-1]
    assert len(journal(run)) == 2
    assert (point == "notices.ended") == ("notice 1" not in repr(reopen(tmp_path).explain()))


def _lives(claim: Path) -> bool:
    return alive(json.loads(claim.read_text())["pid"])


def test_ten_processes_that_start_who_sends_have_it_sent_once(tmp_path: Path) -> None:
    outbox.write(tmp_path, NOTICE, [tuple(writes(tmp_path / "told"))])
    for _ in range(10):
        outbox.start(tmp_path, Errand(1, 0, 1))
    wait_for(lambda: outbox.standing(tmp_path, Errand(1, 0, 1)).standing is Standing.SENT)
    assert len(came(tmp_path / "told")) == 1
    assert len(list((tmp_path / "notices").glob("*.claim"))) == 1


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_a_full_disk_keeps_a_notice_back_and_not_the_run(tmp_path: Path, error: str) -> None:
    run = make(tmp_path, ms.Task("a", "true"))
    code = in_child(lambda: run.wait(timeout_s=60), lambda: testing.arm(error, "notices.written"))
    assert code == ENDED
    again = reopen(tmp_path)
    assert again.status is ms.RunStatus.COMPLETED
    assert journal(again) == []
    again.step()
    wait_for(lambda: all_sent(again))
    assert kinds(tmp_path) == [["completed"]]


def test_a_notice_that_could_not_be_written_is_told_by_the_next_tick_of_the_same_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, ms.Task("a", "true"))
    with monkeypatch.context() as patched:
        patched.setattr(SQLiteStateStore, "note_told", full)
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    run.step()
    wait_for(lambda: all_sent(run))
    assert [said["number"] for said in came(tmp_path / "told")] == [1]
    assert journal(run)[0] == "notice 1: w/r: COMPLETED"


def full(*_: object) -> int:
    raise StoreUnwritableError("the disk is full")


def test_what_the_journal_keeps_for_notices_may_be_spoilt(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("a", "true"), *asks(1), operators=HUMAN)
    run.wait(timeout_s=60)
    run.tell("one")
    run.tell("two")
    wait_for(lambda: all_sent(run))
    run.step()
    with closing(sqlite3.connect(run.path / "state.sqlite")) as connection, connection:
        connection.execute("UPDATE events SET data = '[1' WHERE seq = (SELECT told FROM runs)")
    again = reopen(tmp_path)
    again.step()
    again.respond("ask0", {})
    again.wait(timeout_s=60)
    wait_for(lambda: ["completed"] in kinds(tmp_path))
    numbers = [said["number"] for said in came(tmp_path / "told")]
    assert sorted(numbers) == list(range(1, len(numbers) + 1)), "no number is used twice"


# -- the run's harm -----------------------------------------------------------------------------------


def test_a_sink_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    run = make(tmp_path, ms.Task("a", "true"), notify=["/bin/sh", "-c", f"cat {gate}"])
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    wait_for(lambda: list(run.path.glob("notices/*.claim")))
    run.step()
    assert not list(run.path.glob("notices/*.end"))
    gate.open("w").close()
    wait_for(lambda: all_sent(run))


def test_what_a_sink_does_ends_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shell = ("/bin/sh", "-c")
    with monkeypatch.context() as patched:
        patched.setattr(sender, "MOST_S", 0.5)
        assert sender.send(NOTICE, (*shell, "sleep 60")).standing is Standing.UNKNOWN
    monkeypatch.setattr(sender, "MOST_S", 100.0)
    assert sender.send(NOTICE, (*shell, "echo out >&2; echo why >&2; exit 3")) == (
        Standing.FAILED,
        "exit code 3: why",
        0,
    )
    assert sender.send(NOTICE, (*shell, "kill -9 $$")).why == "killed by signal 9"
    assert (
        sender.send(NOTICE, ("no-such-program",)).why == "no-such-program cannot be started: No such file or directory"
    )
    flood = f"yes | head -c 20000000; yes word | head -c 20000000 >&2; sleep 60 & echo $! > {tmp_path}/left; exit 0"
    assert sender.send(NOTICE, (*shell, flood)).standing is Standing.SENT
    os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)  # it was not waited for
    assert sender.send(NOTICE, (*shell, "exit 0")).standing is Standing.SENT, "it need not read"
    assert sender.send(NOTICE, {"function": "told:refuse"}).why.startswith("ValueError: ")
    assert sender.send(NOTICE, {"function": "told:nothing"}).standing is Standing.FAILED
    assert sender.send(NOTICE, {"function": "sys:exit"}).why.startswith("SystemExit")


def test_what_could_not_be_sent_is_tried_again_later_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teller, "_AGAIN_S", (0.001, 0.001, 0.001))
    flaky = ["/bin/sh", "-c", f'[ -e {tmp_path}/up ] || exit 1; printf "%s\\n" "$(cat)" >> {tmp_path}/told']
    run = make(tmp_path, ms.Task("a", "true"), notify=[flaky, ["/bin/sh", "-c", "exit 5"]])
    run.wait(timeout_s=60)
    wait_for(lambda: len(list(run.path.glob("notices/*.end"))) == 2)
    (tmp_path / "up").touch()
    wait_for(lambda: run.step() and any("given up" in row for row in journal(run)))
    assert len(came(tmp_path / "told")) == 1
    said = journal(run)
    assert sum("tried again" in row for row in said) == 1 + 3
    assert sum(row == "notice 1 to command sh: sent" for row in said) == 1
    (lost,) = [blocker for blocker in reopen(tmp_path).explain() if blocker.what == "notice 1"]
    assert lost.why == "to command sh: given up: exit code 5"
    assert run.step().tell_again_s is None, "nothing more is tried"


def test_where_nobody_is_told_nothing_is_done_and_else_one_statement_a_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for name, config in (("nobody", {}), ("somebody", {"notify": writes(tmp_path / "told")})):
        fake = Completer(1)
        fake.finish = 0
        flow = ms.Workflow([ms.Task("a", "true", operator="fake")])
        with counted(monkeypatch) as statements:
            run = ms.initialize_run("w", flow, base_path=tmp_path, run_id=name, operators={"fake": fake}, config=config)
            run.step()
            run.step()
            statements.clear()
            run.step()
            counts.append(len(statements))
        assert not (run.path / "notices").exists()
    assert counts[1] == counts[0] + 1


def test_a_new_process_does_not_look_at_all_that_others_have_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_MOST_UNSAID", 20)
    fake = Completer(10)
    flow = [ms.Task(f"t{n}", "true", operator="fake") for n in range(40)]
    run = make(tmp_path, *flow, operators={"fake": fake})
    looks: list[int] = []
    news_after = StoreReader.news_after
    monkeypatch.setattr(
        StoreReader, "news_after", lambda self, seq, most: looks.append(seq) or news_after(self, seq, most)
    )
    for _ in range(4):
        ms.open_run(run.path, operators={"fake": fake}).step()
    last = run.store.last_event()
    assert len(looks) == 4
    assert last - 100 < looks[-1] < last
    assert all(said == "nothing else to tell up to here" for said in journal(run))
    assert not (run.path / "notices").exists()


def test_a_run_of_somebody_else_tells_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, ms.Task("a", "true"))
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    stranger = ms.open_run(copy)
    for act in (stranger.step, stranger.tell):
        with pytest.raises(UntrustedRunError, match=r"it tells .*/bin/sh"):
            act()
    assert not (copy / "notices").exists()
    assert came(tmp_path / "told") == []


# -- what is seen in a state, and not in an event -----------------------------------------------------


def test_a_run_in_which_nothing_moves_is_told_of_once(tmp_path: Path) -> None:
    fake = Completer(1)
    fake.finish = 0
    notify = {"to": writes(tmp_path / "told"), "still_h": 12}
    run = make(tmp_path, ms.Task("a", "true", operator="fake"), notify=notify, operators={"fake": fake})
    assert 0 < (run.step().tell_again_s or 0) <= 12 * 3600
    run.configure(notify={**notify, "still_h": 1e-6})
    for again in (run, run, ms.open_run(run.path, operators={"fake": fake}), run):
        wait_for(lambda: time.time() - run.store.events()[-1].at > 0.004)
        again.step()
    wait_for(lambda: all_sent(run))
    assert kinds(tmp_path) == [["still"]]


def test_requests_that_wait_are_brought_to_mind(tmp_path: Path) -> None:
    notify = {"to": writes(tmp_path / "told"), "remind_h": 1e-9}
    run = make(tmp_path, *asks(2), notify=notify, operators=HUMAN)
    run.step()
    run.configure(notify={**notify, "remind_h": 5e-5})
    # Each is sent by a process of its own, so a later one may come first.
    wait_for(lambda: run.step() and {1, 2, 3} <= {int(said["number"]) for said in came(tmp_path / "told")})
    assert kinds(tmp_path)[:3] == [["needs_you"], ["reminder"], ["reminder"]]
    (second,) = (said for said in came(tmp_path / "told") if int(said["number"]) == 2)
    assert second["title"] == "w/r: 2 requests wait still"
    for n in range(2):
        run.respond(f"ask{n}", {})
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    wait_for(lambda: run.step() and all_sent(run) and ["completed"] in kinds(tmp_path))


def test_a_clock_that_is_set_back_does_not_silence_reminders_nor_repeat_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notify = {"to": writes(tmp_path / "told"), "remind_h": 24}
    run = make(tmp_path, *asks(1), notify=notify, operators=HUMAN)
    run.step()
    hour_s, now = 3600.0, time.time()
    for back_h, number in ((1, 1), (8760, 2), (8759, 2), (8735, 3)):
        monkeypatch.setattr(telling, "time", SimpleNamespace(time=lambda back_h=back_h: now - back_h * hour_s))
        run.step()
        assert len(list((run.path / "notices").glob("*.json"))) == number, back_h
    wait_for(lambda: len(came(tmp_path / "told")) == 3)


def test_a_budget_that_is_nearly_spent_is_told_once_and_anew_when_it_is_raised(tmp_path: Path) -> None:
    tasks = [ms.Task(f"t{n}", "true") for n in range(12)]
    notify = {"to": writes(tmp_path / "told"), "budget": 0.5}
    operators = {"local": ms.LocalOperator(max_active=1)}
    run = make(tmp_path, *tasks, notify=notify, config={"budget": {"tasks": 4}}, operators=operators)
    assert run.wait(timeout_s=60) is ms.RunStatus.PAUSED
    run.configure(budget={"tasks": 8})
    assert run.resume().wait(timeout_s=60) is ms.RunStatus.PAUSED
    wait_for(lambda: all_sent(run))
    first = min(came(tmp_path / "told"), key=lambda said: int(said["number"]))
    assert first["title"].startswith("w/r: the budget is nearly spent: ")
    assert first["title"].endswith(" of 4 tasks")
    assert sorted(kinds(tmp_path)) == [["budget_near"], ["budget_near"], ["paused"], ["paused"]]


class Silent(Completer):
    """Cannot be asked."""

    silent = True

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        if self.silent:
            raise OperatorUnreachableError("no route to host")
        return {}


def test_an_operator_that_gets_nothing_new_is_told_of_and_again_the_next_time(tmp_path: Path) -> None:
    fake = Silent(1)
    tasks = [ms.Task(name, "true", operator="fake") for name in ("a", "b")]
    notify = {"to": writes(tmp_path / "told"), "on": ["operator_suspended"]}
    operators = {**HUMAN, "fake": fake}
    run = make(tmp_path, *tasks, *asks(1), operators=operators, config={"suspend_after": 1}, notify=notify)
    run.step()
    for silent in (True, True, False, True):
        fake.silent = silent
        ms.open_run(run.path, operators={"fake": fake}).step()
    wait_for(lambda: all_sent(run))
    assert [said["title"] for said in came(tmp_path / "told")] == ["w/r: nothing new goes to the operator fake"] * 2
    assert "no route to host" in came(tmp_path / "told")[0]["text"]
    assert "the operator fake takes work again" in journal(run)


# -- whom, and what is never said ---------------------------------------------------------------------


def test_no_value_of_a_secret_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LICENSE_OF_ADA", "abc123xyz")
    monkeypatch.setenv("MAIL_PASSWORD", "hunter22")
    leaks = ms.Task("leaks", "echo bad licence $LICENSE >&2; exit 1", env={"LICENSE": "env:LICENSE_OF_ADA"})
    run = make(tmp_path, leaks, notify=[told.refuse, writes(tmp_path / "told")])
    run.wait(timeout_s=60)
    wait_for(lambda: all_sent(run))
    run.step()
    said = (tmp_path / "told").read_text() + "".join(path.read_text() for path in run.path.glob("notices/*"))
    said += "".join(journal(run))
    assert "bad licence env:LICENSE_OF_ADA" in said
    assert "the password env:MAIL_PASSWORD is wrong" in said
    assert "abc123xyz" not in said
    assert "hunter22" not in said


def test_a_function_of_a_module_is_called(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("a", "true"), notify=told.write_down)
    run.wait(timeout_s=60)
    wait_for(lambda: all_sent(run))
    assert Path(f"{run.path}.told").read_text() == "w/r: COMPLETED\n"


def test_a_word_of_ones_own_gets_there_or_says_why_not(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("a", "true"))
    run.tell("is anybody there?")
    (said,) = came(tmp_path / "told")
    assert said["title"] == "w/r: is anybody there?"
    run.configure(notify=[writes(tmp_path / "told"), ["/bin/sh", "-c", "echo no such host >&2; exit 7"]])
    with pytest.raises(NoticeError, match=r"notice 2 did not reach command sh \(exit code 7: no such host\)"):
        run.tell()
    assert len(came(tmp_path / "told")) == 2
    run.configure(notify=None)
    with pytest.raises(InvalidConfigError, match="tells nobody"):
        run.tell()


def test_who_is_named_later_hears_of_what_comes_then(tmp_path: Path) -> None:
    run = ms.initialize_run("w", ms.Workflow([FAILS]), base_path=tmp_path, run_id="r")
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    reopen(tmp_path).configure(notify={"to": writes(tmp_path / "told"), "on": ["completed", "failed"]})
    run.step()
    assert not (run.path / "notices").exists()
    run.retry("bad", command="true")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    wait_for(lambda: all_sent(run))
    assert kinds(tmp_path) == [["completed"]]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (5, "takes a command"),
        ([5], "takes a command"),
        ({"on": ["failed"]}, "must say to whom"),
        ({"to": "env:X", "whom": 1}, "has no 'whom'"),
        ({"to": "env:X", "on": ["fail"]}, "did you mean 'failed'"),
        ({"to": "env:X", "on": "failed"}, "must list kinds"),
        ({"to": "env:X", "still_h": 0}, "still_h must be a positive number"),
        ({"to": "env:X", "remind_h": True}, "remind_h must be a positive number"),
        ({"to": "env:X", "budget": 2}, "must be a part"),
        ("mail ada", "is no address"),
        (["bin/notify", "-x"], "give its whole path"),
        (["env:X", "mail"], "is no address"),
        ("slack://TokenA/TokenB", "may hold a secret"),
        ("json://ada:pw@localhost", "may hold a secret"),
        ("jsons://hooks.example.org/services/T0/B1", "may hold a secret"),
        ("json://localhost/?key=1", "may hold a secret"),
        (lambda notice: None, "put it into a module"),
        ([["true"], ["x\0"]], "takes a command"),
        ([["true"]] * 21, "20 at most"),
    ],
)
def test_what_cannot_be_told_is_refused_by_name(given: object, why: str) -> None:
    with pytest.raises(InvalidConfigError, match=f"config: notify .*{why}"):
        Notify.from_config(given)


def test_whom_a_run_tells_is_kept_as_it_is_and_shown_without_secrets() -> None:
    given = {"to": [["/usr/bin/curl", "https://x.org/TOKEN"], "env:TO", "json://localhost:80", told.write_down]}
    notify = Notify.from_config(given)
    assert notify is not None
    assert Notify.from_config(asdict(notify)) == notify
    assert [name_of(sink) for sink in notify.to] == ["command curl", "env:TO", "json://", "function told:write_down"]
    assert notify.variables == ["TO"]
    assert Notify.from_config([]) is None
    assert Notify.from_config(["env:A", "env:B"]) == Notify(("env:A", "env:B"))


def test_an_address_needs_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingLibraryError, match=r"matterstack\[notify\]"):
        make(tmp_path, ms.Task("a", "true"), notify="env:TO")
    assert "not installed" in sender.send(NOTICE, "json://localhost:9").why


class Inbox(BaseHTTPRequestHandler):
    """Takes what is posted."""

    def do_POST(self) -> None:
        self.server.came.append(self.rfile.read(int(self.headers["Content-Length"])))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *said: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    pytest.importorskip("apprise", reason=f"{NOT_REQUIRED}apprise is not installed")
    with HTTPServer(("127.0.0.1", 0), Inbox) as it:
        it.came = []  # type: ignore[attr-defined]
        threading.Thread(target=it.serve_forever, daemon=True).start()
        yield it
        it.shutdown()


def test_apprise_posts_to_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: HTTPServer) -> None:
    port = server.server_address[1]
    monkeypatch.setenv("MATTERSTACK_NOTIFY_TO", f"json://ada:hunter22@127.0.0.1:{port}/in")
    run = make(tmp_path, ms.Task("a", "true"), notify=[f"json://127.0.0.1:{port}", "env:MATTERSTACK_NOTIFY_TO"])
    run.tell("a word")
    bodies = [body.decode() for body in server.came]  # type: ignore[attr-defined]
    assert len(bodies) == 2
    assert all("w/r: a word" in body for body in bodies)
    monkeypatch.setenv("MATTERSTACK_NOTIFY_TO", "nonsense")
    with pytest.raises(NoticeError, match=r"env:MATTERSTACK_NOTIFY_TO \(apprise does not know"):
        run.tell()
    assert b"hunter22" not in b"".join(path.read_bytes() for path in run.path.rglob("*") if path.is_file())


def test_a_daemon_passes_on_the_variable_that_holds_an_address(tmp_path: Path, server: HTTPServer) -> None:
    run = make(tmp_path, ms.Task("a", "true"), notify="env:WHERE_ADA_IS")
    with daemon(tmp_path, WHERE_ADA_IS=f"json://127.0.0.1:{server.server_address[1]}"):
        wait_for(lambda: server.came)  # type: ignore[attr-defined]
        wait_for(lambda: "notice 1 to env:WHERE_ADA_IS: sent" in journal(run))
    assert run.status is ms.RunStatus.COMPLETED


def test_a_daemon_brings_to_mind_what_waits_in_a_run_that_it_need_not_step(tmp_path: Path) -> None:
    notify = {"to": writes(tmp_path / "told"), "remind_h": 1e-3}
    run = make(tmp_path, *asks(1), notify=notify, operators=HUMAN)
    with daemon(tmp_path):
        wait_for(lambda: ["reminder"] in kinds(tmp_path))
        wait_for(lambda: all_sent(run))
    assert kinds(tmp_path)[0] == ["needs_you"]
