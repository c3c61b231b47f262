"""A campaign that streams is asked as soon as a task ends; each result is taken once, whatever is killed when."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from crashes import ENDED, RAISED, killed_at, points_of
from ledger import check_executions, starts, witnessed

import matterstack as ms
from matterstack.crash_points import arm
from matterstack.errors import CampaignError, RunLockedError
from matterstack.orchestration import loop
from matterstack.orchestration.loop import sleep


def keep(state: Any, results: Mapping[str, ms.TaskResult]) -> list[Any]:
    return state + [[name, str(one.status)] for name, one in results.items()]


class Streams(ms.Campaign):
    """Adds tasks, two at a time, and keeps in which order it took their results."""

    at_once = 2

    def __init__(self, *commands: str) -> None:
        self.commands = commands

    def initial_state(self) -> list[Any]:
        return []

    def task(self, number: int) -> ms.Task:
        return ms.Task(f"t{number}", self.commands[number])

    def update(self, state: Any, results: Mapping[str, ms.TaskResult], live: Mapping[str, Any]) -> ms.Update | None:
        seen, more = keep(state, results), ms.Workflow()
        begun = len(seen) + len(live)
        for number in range(begun, min(begun + self.at_once - len(live), len(self.commands))):
            more.add_task(self.task(number))
        return ms.Update(seen, add=more)


class Answers(ms.Campaign):
    """Streams, and answers what a test says: functions of state, results and live, one after the other, then None."""

    at_once = 2

    def __init__(self, *answers: Callable[..., Any], plan: ms.Workflow | None = None) -> None:
        self.answers, self.first, self.asked = list(answers), plan, []

    def initial_state(self) -> list[Any]:
        return []

    def plan(self, state: Any) -> ms.Workflow | None:
        return None if self.asked else self.first or ms.Workflow()

    def update(self, state: Any, results: Mapping[str, ms.TaskResult], live: Mapping[str, Any]) -> ms.Update | None:
        self.asked.append((sorted(results), sorted(live)))
        return self.answers.pop(0)(state, results, live) if self.answers else None


def begin(base: Path, campaign: ms.Campaign, **given: Any) -> ms.Run:
    operators = {"local": ms.LocalOperator(max_active=4), "human": ms.HumanOperator()}
    return ms.initialize_run("w", campaign, base_path=base, run_id="r", **{"operators": operators, **given})


def add(*tasks: ms.Task, **said: Any) -> Callable[..., ms.Update]:
    return lambda state, results, live: ms.Update(keep(state, results), ms.Workflow(tasks), **said)


def TAKES(state: Any, results: Any, live: Any) -> ms.Update:
    return ms.Update(keep(state, results))


# -- what it is asked, and when ------------------------------------------------------------------------


def test_each_result_is_taken_once_and_the_run_completes(tmp_path: Path) -> None:
    run = begin(tmp_path, Streams(*["true"] * 7))
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert sorted(run.campaign_state) == [[f"t{n}", "COMPLETED"] for n in range(7)]
    assert (run.counts.completed, run.iteration) == (7, 0)
    assert run.store.check() == []


def test_a_slow_task_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    run = begin(tmp_path, Streams(f"cat {tmp_path}/gate", *["true"] * 5))
    while len(run.campaign_state) < 5:
        run.step()
    assert [name for name, _ in run.campaign_state] == ["t1", "t2", "t3", "t4", "t5"]
    (tmp_path / "gate").write_text("")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.campaign_state[-1] == ["t0", "COMPLETED"]


def test_it_is_asked_when_it_begins_then_only_when_something_ended_and_a_place_is_free(tmp_path: Path) -> None:
    gates = [tmp_path / name for name in "abc"]
    for gate in gates:
        os.mkfifo(gate)
    tasks = [ms.Task(gate.name, f"cat {gate}") for gate in gates]
    campaign = Answers(add(tasks[2]), lambda *_: None, plan=ms.Workflow(tasks[:1]))
    run = begin(tmp_path, campaign)
    for _ in range(6):
        run.step()
    assert campaign.asked == [([], ["a"])], "once, and its two places are filled now"
    gates[0].write_text("")
    while run.counts.completed < 1:
        run.step()
    for _ in range(3):
        run.step()
    assert campaign.asked[1:] == [(["a"], ["c"])], "it answered None, and nothing has ended since"
    gates[2].write_text("")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert campaign.asked[2:] == [(["a", "c"], [])], "what it has not taken comes again"
    assert run.iteration == 0


def test_a_failed_task_is_a_result_and_fails_no_run(tmp_path: Path) -> None:
    run = begin(tmp_path, Streams("true", "exit 3", "true"))
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert sorted(run.campaign_state) == [["t0", "COMPLETED"], ["t1", "FAILED"], ["t2", "COMPLETED"]]


def test_an_answer_that_says_the_same_again_ends_the_iteration(tmp_path: Path) -> None:
    class Once(Streams):
        def analyze(self, state: Any, results: Mapping[str, ms.TaskResult]) -> Any:
            return [*state, sorted(results)]

    run = begin(tmp_path, Once("true"))
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.campaign_state == [["t0", "COMPLETED"], ["t0"]], "analyze is shown every task of the iteration"


class Rounds(ms.Campaign):
    """Two iterations, each of which begins empty and streams two tasks."""

    at_once = 2

    def initial_state(self) -> Any:
        return {"round": 0, "begun": False, "seen": []}

    def plan(self, state: Any) -> ms.Workflow | None:
        return ms.Workflow() if state["round"] < 2 else None

    def update(self, state: Any, results: Mapping[str, ms.TaskResult], live: Mapping[str, Any]) -> ms.Update | None:
        more = ms.Workflow() if state["begun"] else ms.Workflow([ms.Task("a", "true"), ms.Task("b", "true")])
        return ms.Update({**state, "begun": True, "seen": keep(state["seen"], results)}, add=more)

    def analyze(self, state: Any, results: Mapping[str, ms.TaskResult]) -> Any:
        return {**state, "round": state["round"] + 1, "begun": False}


def test_an_answer_that_only_counts_on_is_not_asked_for_ever(tmp_path: Path) -> None:
    class Counts(ms.Campaign):
        at_once = 1

        def initial_state(self) -> int:
            return 0

        def update(self, state: int, results: Mapping[str, ms.TaskResult], live: Mapping[str, Any]) -> ms.Update:
            return ms.Update(state + 1, add=ms.Workflow([] if state else [ms.Task("t", "true")]))

    run = begin(tmp_path, Counts())
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.campaign_state == 3, "one task, its result, and the end"


def test_iterations_follow_each_other(tmp_path: Path) -> None:
    run = begin(tmp_path, Rounds())
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert [name for name, _ in run.campaign_state["seen"]] in (
        [*first, *then] for first in ("ab", "ba") for then in ("ab", "ba")
    )
    assert run.iteration == 1


def test_parameters_are_those_of_calls_and_experiments(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def first(state: Any, results: Any, live: Any) -> ms.Update:
        flow = ms.Workflow([ms.Task("ask", operator="human", instructions="?", parameters={"y": 2})])
        before = flow.add("double", double, 4)
        flow.add("again", double, before, factor=3.0)
        return ms.Update([], flow)

    def then(state: Any, results: Any, live: Any) -> ms.Update:
        seen.update({name: dict(one) for name, one in live.items()})
        seen.update({f"over {name}": one.parameters for name, one in results.items()})
        return ms.Update(keep(state, results), cancel=list(live))

    run = begin(tmp_path, campaign := Answers(first, then))
    campaign.at_once = 3
    run.wait(timeout_s=60)
    assert seen["ask"] == {"y": 2}
    assert seen["over double"] == {"x": 4, "factor": 2.0}
    again = seen.get("again") or seen["over again"]
    assert (again["x"].task_id, again["factor"]) == ("double", 3.0)


def double(x: float, factor: float = 2.0) -> float:
    return x * factor


def test_a_person_reopens_it_for_more(tmp_path: Path) -> None:
    run = begin(tmp_path, Streams("true", "true"))
    run.wait(timeout_s=60)
    run.reopen(Streams(*["true"] * 4))
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert sorted(run.campaign_state) == [[f"t{n}", "COMPLETED"] for n in range(4)]
    assert (run.iteration, len(run.tasks)) == (1, 4)
    run.reopen()
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED, "it wants nothing more"
    assert len(run.tasks) == 4


# -- what it may answer --------------------------------------------------------------------------------


def test_tasks_may_build_on_those_that_are_there(tmp_path: Path) -> None:
    def second(state: Any, results: Any, live: Any) -> ms.Update:
        flow = ms.Workflow([ms.Task("c", "cat a.txt > result.json", files={"a.txt": ms.FromTask("a", "a.json")})])
        flow.add("d", double, flow.reference("called"))
        return ms.Update(keep(state, results), flow)

    first = ms.Workflow([ms.Task("a", "echo '{\"n\": 1}' > a.json")])
    first.add("called", double, 2.0)
    run = begin(tmp_path, Answers(lambda *_: None, second, plan=first))
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.value("d") == 8.0
    assert run.value("c") == {"n": 1}
    assert run.store.check() == []


def test_what_depends_on_a_task_that_failed_is_skipped_unless_it_allows_that(tmp_path: Path) -> None:
    needs = [
        ms.Task("needs", "true", dependencies=["bad"]),
        ms.Task("below", "true", dependencies=["needs"]),
        ms.Task("allows", "true", dependencies=["bad"], allow_dependency_failure=True),
    ]
    run = begin(tmp_path, Answers(lambda *_: None, add(*needs), plan=ms.Workflow([ms.Task("bad", "false")])))
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert list(run.tasks["status"]) == ["FAILED", "SKIPPED", "SKIPPED", "COMPLETED"]
    assert run.tasks["reason"].iloc[1] == "bad failed"
    assert run.store.check() == []


def test_what_it_cancels_is_stopped_and_comes_as_a_result(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    held = ms.Task("held", f"cat {tmp_path}/gate")
    waits = ms.Task("waits", "true", dependencies=["held"])
    campaign = Answers(
        lambda *_: None,
        lambda state, results, live: ms.Update(keep(state, results), cancel=["held"]),
        TAKES,
        plan=ms.Workflow([held, waits, ms.Task("quick", "true")]),
    )
    campaign.at_once = 9
    run = begin(tmp_path, campaign)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.campaign_state == [["quick", "COMPLETED"], ["held", "CANCELLED"], ["waits", "SKIPPED"]]
    assert list(run.attempts["status"]) == ["CANCELLED", "COMPLETED"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda *_: {"a": 1}, "returned a dict, and not a matterstack.Update"),
        (lambda *_: ms.Update([], cancel=["nope"]), "cancels 'nope', which is not unfinished"),
        (lambda *_: ms.Update([], cancel="a"), "a list of task ids"),
        (lambda *_: ms.Update([], cancel=None), "a list of task ids"),
        (lambda *_: ms.Update([], cancel=(name for name in "a")), "a list of task ids"),
        (lambda *_: ms.Update([], add=[ms.Task("b", "true")]), "Update.add is a list"),
        (lambda *_: ms.Update({1, 2}), "state"),
        (add(ms.Task("a", "true")), "has already"),
        (add(ms.Task("A", "true")), "differs only in case"),
        (add(ms.Task("b", "true", dependencies=["aa"])), "depends on 'aa'"),
        (add(ms.Task("b", "true", operator="x")), "wants the operator 'x'"),
        (lambda *_: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_an_answer_that_cannot_be_used_pauses_the_run_and_loses_nothing(
    tmp_path: Path, answer: Any, words: str
) -> None:
    plan = ms.Workflow([ms.Task("a", "true")])
    run = begin(tmp_path, Answers(lambda *_: None, answer, TAKES, plan=plan))
    assert run.wait(timeout_s=60) is ms.RunStatus.PAUSED
    assert run.reason is not None
    assert words in run.reason
    assert (run.campaign_state, run.counts.total) == ([], 1)
    run.resume()
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.campaign_state == [["a", "COMPLETED"]], "it was asked again with the same result"


@pytest.mark.parametrize("at_once", [None, 0, True, 2.0, "4"])
def test_it_has_to_say_how_many_it_keeps_unfinished(tmp_path: Path, at_once: Any) -> None:
    class Forgets(ms.Campaign):
        def update(self, state: Any, results: Any, live: Any) -> None:
            return None

    if at_once is not None:
        Forgets.at_once = at_once
    with pytest.raises(CampaignError, match=r"write at_once = 4, say, in Forgets"):
        begin(tmp_path, Forgets())
    assert not (tmp_path / "workspaces/w/runs/r").exists()


# -- pauses, people, budgets ---------------------------------------------------------------------------


def test_a_paused_run_asks_for_nothing_and_resumed_it_does(tmp_path: Path) -> None:
    run = begin(tmp_path, Streams(*[f"until [ -e {tmp_path}/go ]; do sleep 0.02; done"] * 3))
    run.step()
    run.step()
    run.pause()
    (tmp_path / "go").touch()
    while run.attempts["status"].isin(["SUBMITTED", "RUNNING"]).any() or run.counts.submitted:
        run.step()
    assert run.campaign_state == []
    run.resume()
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert len(run.campaign_state) == 3


def test_a_person_may_stand_in_the_stream(tmp_path: Path) -> None:
    ask = ms.Task("gate", operator="human", instructions="?", schema={"type": "object"})
    after = ms.Task("after", "true", dependencies=["gate"])
    run = begin(tmp_path, Answers(add(ask, after), *[TAKES] * 2))
    while not run.attempts["status"].eq("WAITING").any():
        run.step()
    said = str(run.explain())
    assert "it waits for results; 2 of 2 places are filled" in said
    run.respond("gate", {"fine": True})
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert sorted(run.campaign_state) == [["after", "COMPLETED"], ["gate", "COMPLETED"]]


def test_a_result_that_a_person_wants_anew_is_taken_anew(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    os.mkfifo(tmp_path / "gate")
    plan = ms.Workflow([ms.Task("a", f"[ -e {flag} ]"), ms.Task("held", f"cat {tmp_path}/gate")])
    run = begin(tmp_path, Answers(*[TAKES] * 3, plan=plan))
    while not run.campaign_state:
        run.step()
    assert run.campaign_state == [["a", "FAILED"]]
    flag.touch()
    run.retry("a")
    while len(run.campaign_state) < 2:
        run.step()
    (tmp_path / "gate").write_text("")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.campaign_state == [["a", "FAILED"], ["a", "COMPLETED"], ["held", "COMPLETED"]]


def test_a_budget_ends_it_with_a_reason(tmp_path: Path) -> None:
    run = begin(tmp_path, Streams(*["true"] * 9), config={"budget": {"tasks": 4}})
    assert run.wait(timeout_s=60) is ms.RunStatus.PAUSED
    assert run.counts.completed == 4
    run.configure(budget={"tasks": 20})
    run.resume()
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert len(run.campaign_state) == 9


def test_without_its_campaign_work_goes_on_and_nothing_is_taken(tmp_path: Path) -> None:
    class Local(Streams):
        def __init__(self, *commands: str, unkept: Any = None) -> None:
            super().__init__(*commands)
            self.unkept = open(os.devnull)  # noqa: SIM115 - what cannot be kept with the run

    campaign = Local("true", "true", "true")
    run = begin(tmp_path, campaign)
    run.step()
    alone = ms.open_run(run.path)
    report = alone.step()
    while alone.counts.unfinished:
        report = alone.step()
    assert alone.campaign_state == []
    assert "campaign" in str(report.reason)
    again = ms.open_run(run.path, campaign=campaign)
    assert again.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert len(again.campaign_state) == 3
    campaign.unkept.close()


def test_it_may_come_to_want_more_places(tmp_path: Path) -> None:
    gates = [tmp_path / f"gate{n}" for n in range(4)]
    for gate in gates:
        os.mkfifo(gate)
    commands = [f"cat {gate}" for gate in gates]
    run = begin(tmp_path, Streams(*commands))
    run.step()
    assert run.counts.total == 2
    wider = Streams(*commands)
    wider.at_once = 4
    again = ms.open_run(run.path, campaign=wider)
    again.step()
    gates[0].write_text("")
    while again.counts.total < 4:
        again.step()
    while again.counts.submitted < 3:
        again.step()
    for gate in gates[1:]:
        gate.write_text("")
    assert again.wait(timeout_s=60) is ms.RunStatus.COMPLETED


# -- views ---------------------------------------------------------------------------------------------


def test_views_see_tasks_that_are_added(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    run = begin(tmp_path, Streams(f"cat {tmp_path}/gate", "true", "true"))
    graph, table = run.dag(), run.table()
    while len(run.campaign_state) < 2:
        run.step()
    for view in (graph, table):
        view.follower.look()
    assert table.window["total"] == 3
    assert set(graph.board.names) == {"t0", "t1", "t2"}
    (tmp_path / "gate").write_text("")
    run.wait(timeout_s=60)


def test_the_journal_tells_what_was_taken_and_added(tmp_path: Path) -> None:
    run = begin(tmp_path, Streams("true"))
    run.wait(timeout_s=60)
    events = run.events[run.events["event"] == "update"]
    assert list(events["reason"]) == ["added 1", "taken 1"]


# -- the cost ------------------------------------------------------------------------------------------


def test_an_answer_costs_the_same_however_many_tasks_there_are(tmp_path: Path) -> None:
    class Counts(Streams):
        def initial_state(self) -> int:
            return 0

        def plan(self, state: Any) -> ms.Workflow | None:
            return None if state else ms.Workflow(ms.Task(f"old{n}", "true") for n in range(self.old))

        def update(self, state: Any, results: Mapping[str, ms.TaskResult], live: Mapping[str, Any]) -> Any:
            if state >= 3 and not live:
                return None
            more = ms.Workflow([ms.Task(f"new{state}", "true")])
            return ms.Update(state + 1, add=more if state < 3 else None)

    work = []
    for old in (100, 5000):
        campaign = Counts()
        campaign.old = old
        base = tmp_path / str(old)
        run = begin(base, campaign, operators={"local": ms.LocalOperator(), "human": ms.HumanOperator()})
        store = run._session.store
        with run._session.locked(), store.transaction():
            connection = store._connection()
            connection.execute("UPDATE tasks SET status = 'COMPLETED', taken = 1")
            store.recount(0)
        steps = most = 0

        def hundred() -> int:
            nonlocal steps
            steps += 100
            return 0

        run.step()
        store._connection().set_progress_handler(hundred, 100)
        while run.campaign_state < 3:  # in as many ticks as the machine is busy
            steps = 0
            run.step()
            most = max(most, steps)
        store._connection().set_progress_handler(None, 0)
        work.append(most)
    assert work[1] <= work[0] + 3000, f"virtual machine steps of SQLite in a tick: {work}"


def same(number: int) -> int:
    return number


class Chain(Streams):
    """Calls, one after the other."""

    at_once = 1

    def task(self, number: int) -> ms.Task:
        flow = ms.Workflow()
        flow.add(f"t{number}", same, number)
        return flow[f"t{number}"]


def test_results_that_are_known_already_are_waited_for_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    for name in ("first", "second"):
        run = begin(tmp_path / name, Chain(*["-"] * 6), cache=tmp_path / "cache")
        monkeypatch.setattr(loop, "sleep", lambda session, seconds: slept.append(seconds) or sleep(session, seconds))
        if name == "second":
            slept.clear()
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
        assert len(run.campaign_state) == 6
    assert run.tasks["cached"].notna().all()
    assert slept == []


# -- crashes -------------------------------------------------------------------------------------------


class Signs(Streams):
    """Two at a time, five in all, each signs the ledger; the third fails."""

    def __init__(self, ledger: Path) -> None:
        super().__init__("true", "true", "false", "true", "true")
        self.ledger = ledger

    def task(self, number: int) -> ms.Task:
        return witnessed(f"t{number}", self.commands[number], self.ledger)


def make(base: Path) -> None:
    begin(base, Signs(base / "ledger"))


def go_on(base: Path) -> None:
    run = ms.open_run(base / "workspaces/w/runs/r", campaign=Signs(base / "ledger"))
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


def check_taken(base: Path) -> None:
    run = ms.open_run(base / "workspaces/w/runs/r")
    wanted = [[f"t{n}", "FAILED" if n == 2 else "COMPLETED"] for n in range(5)]
    assert sorted(run.campaign_state) == wanted
    assert run.counts.total == 5
    assert sum(starts(base / "ledger").values()) == 5
    check_executions(run, base / "ledger")
    assert run.store.check() == []


def test_killed_at_every_point_each_result_is_taken_once(tmp_path: Path) -> None:
    first = tmp_path / "first"
    make(first)
    points = points_of(partial(go_on, first), tmp_path / "points")
    assert {"update.asked", "update.stored"} <= {point for point, _ in points}
    # The points that a batch reaches as well are sampled; those around an update are all taken.
    chosen = [one for number, one in enumerate(points) if one[0].startswith("update.") or number % 5 == 0]
    for point, hit in chosen:
        base = tmp_path / f"{point}.{hit}"
        make(base)
        killed_at(point, hit, partial(go_on, base))
        go_on(base)
        check_taken(base)


def test_killed_again_and_again_competing_drivers_take_each_result_once(tmp_path: Path) -> None:
    make(tmp_path)
    choice = random.Random(24)
    drivers: set[int] = set()
    codes: list[int] = []
    while ENDED not in codes:
        assert len(codes) < 200, "it gets nowhere"
        while len(drivers) < 2:
            drivers.add(drive(tmp_path, choice.randint(1, 15)))
        over, status = os.wait()
        if over not in drivers:
            continue  # of a test before this one
        drivers.discard(over)
        codes.append(os.waitstatus_to_exitcode(status))
    codes += [os.waitstatus_to_exitcode(os.waitpid(driver, 0)[1]) for driver in drivers]
    assert set(codes) == {ENDED, -signal.SIGKILL}
    assert len(codes) > 4
    check_taken(tmp_path)


def drive(base: Path, hit: int) -> int:
    """Return a process that goes on with the run until it is over, or until it dies at some crash point."""
    pid = os.fork()
    if pid == 0:
        code = RAISED
        try:
            arm("kill", "*", hit)
            while code != ENDED:
                with contextlib.suppress(RunLockedError):
                    go_on(base)
                    code = ENDED
        finally:
            os._exit(code)
    return pid
