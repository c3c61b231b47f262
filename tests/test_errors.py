"""Errors: each leads to its section in troubleshooting, wherever it is shown and whatever process it comes from."""

from __future__ import annotations

import inspect
import multiprocessing
import pickle
import re
import shutil
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

import matterstack as ms
from matterstack import errors
from matterstack.errors import AttemptFailedError, MatterstackError, MissingFileError, UntrustedRunError

PAGE = Path(__file__).parent.parent / "docs" / "troubleshooting.md"
KINDS = [kind for kind in vars(errors).values() if inspect.isclass(kind)]
#: What a class wants by name.
WANTED = {
    UntrustedRunError: {"path": Path("runs/r"), "would_run": "true"},
    MissingFileError: {"path": Path("runs/r/x.log")},
}


def made(kind: type[MatterstackError]) -> MatterstackError:
    return kind("what was wrong", **WANTED.get(kind, {}))  # type: ignore[arg-type]


def test_each_shows_its_section_below_its_message() -> None:
    sections = {heading.lower() for heading in re.findall(r"^### (\w+)$", PAGE.read_text(), re.MULTILINE)}
    for kind in KINDS:
        error = made(kind)
        shown = "".join(traceback.format_exception_only(error)).splitlines()
        assert shown[0] == f"matterstack.errors.{kind.__name__}: what was wrong"
        (see,) = shown[1:]
        assert see == f"See docs/troubleshooting.md#{kind.__name__.lower()}"
        assert see.partition("#")[2] in sections
        assert str(error) == "what was wrong", "what is stored and compared is the message"


class BurntError(AttemptFailedError):
    """What an operator of a user's own raises."""


def test_one_of_a_users_own_leads_to_the_one_it_is_a_kind_of() -> None:
    assert BurntError("too hot").__notes__ == ["See docs/troubleshooting.md#attemptfailederror"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_each_is_the_same_after_pickling(protocol: int) -> None:
    for kind in [*KINDS, BurntError]:
        error = made(kind)
        error.add_note("in the second loop")
        came = pickle.loads(pickle.dumps(error, protocol))
        assert (type(came), came.args, str(came), vars(came)) == (kind, error.args, str(error), vars(error))
        assert len(came.__notes__) == 2
        assert getattr(came, "msg", None) == getattr(error, "msg", None), "of an ImportError"


def test_one_from_another_process_is_whole(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        called = pool.submit(ms.open_run, tmp_path / "nothing")
        with pytest.raises(ms.errors.RunNotFoundError, match="no run at") as caught:
            called.result()
    assert caught.value.path == tmp_path / "nothing"
    assert caught.value.__notes__ == ["See docs/troubleshooting.md#runnotfounderror"]


class Once(ms.Campaign):
    """A campaign whose analysis raises an error of ours."""

    def plan(self, state: None) -> ms.Workflow:
        return ms.Workflow([ms.Task("a", "true")])

    def analyze(self, state: None, results: dict[str, ms.TaskResult]) -> None:
        raise ms.errors.PlotError("there is no gap")


def test_the_reason_of_a_campaign_that_raised_begins_with_its_message_and_line(tmp_path: Path) -> None:
    run = ms.initialize_run("w", Once(), base_path=tmp_path)
    assert run.wait(timeout_s=60) is ms.RunStatus.PAUSED
    first = str(run.reason).splitlines()[0]
    assert "PlotError: there is no gap, at analyze, line" in first


def test_the_reason_of_a_command_has_what_an_error_said_and_not_where_it_leads(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import matterstack as ms; ms.open_run('nothing')"]
    run = ms.initialize_run("w", ms.Workflow([ms.Task("look", command)]), base_path=tmp_path)
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    assert run.file("look", "stderr.txt").read_text().endswith("\nSee docs/troubleshooting.md#runnotfounderror\n")
    reason = str(run.tasks.loc["0.look", "reason"])
    assert "; stderr ends with: matterstack.errors.RunNotFoundError: no run at " in reason


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run in which something is completed, has failed, and waits for a person."""
    base = tmp_path_factory.mktemp("base")
    tasks = [
        ms.Task("good", "echo '{\"gap_eV\": 1.5}' > result.json"),
        ms.Task("bad", "exit 3", allow_failure=True),
        ms.Task("ask", operator="human", instructions="good?"),
    ]
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator()}
    run = ms.initialize_run("w", ms.Workflow(tasks), base_path=base, run_id="r", operators=operators)
    run.wait(timeout_s=60)
    return base


RUN = "workspaces/w/runs/r"


@pytest.mark.parametrize("path", ["workspaces/w", "workspaces/w/runs", f"{RUN}/state.sqlite", f"{RUN}/operators"])
def test_a_path_near_a_run_leads_to_it(place: Path, path: str) -> None:
    with pytest.raises(ms.errors.RunNotFoundError) as caught:
        ms.open_run(place / path)
    assert f"there is no state.sqlite in it, but there is one in {place / RUN}. " in str(caught.value)


def test_a_path_with_a_slip_gets_the_name_that_is_there(place: Path) -> None:
    for path, near in (("workspace", "workspaces"), ("no/such/folder", None)):
        with pytest.raises(ms.errors.RunNotFoundError) as caught:
            ms.open_run(place / path)
        assert ("did you mean" in str(caught.value)) is (near is not None)
        assert near is None or f"(did you mean {near!r}?)" in str(caught.value)


@pytest.mark.parametrize(
    ("slip", "words"),
    [
        (lambda run: run.value("bad"), "0.bad has no value: it is FAILED; run.tasks has the reason"),
        (lambda run: run.value("ask"), "0.ask has no value: it is SUBMITTED; run.explain() says what it waits for"),
        (lambda run: run.value("good", attempt=7), "0.good has no attempt 7, of 1: it is COMPLETED"),
        (lambda run: run.dag(collapse="goup"), "collapse must be one of 'auto', 'tasks', 'group', 'iteration', not"),
        (
            lambda run: run.retry("bad", resources={"memory": 3}),
            "(did you mean 'memory_gib'?); there is: nodes",
        ),
        (lambda run: run.store.query("DELETE FROM tasks"), "nothing was changed. A query only reads"),
        (lambda run: ms.preview([ms.Task("a", "true")]), "not a list: pass Workflow([Task(...), ...])"),
        (
            lambda run: ms.preview(ms.Workflow(), config={"suspend_aftr": 2}),
            "unknown setting 'suspend_aftr' in config (did you mean 'suspend_after'?); there is: suspend_after",
        ),
        (lambda run: ms.exchange.write_ase_database("x.db", run), "give what ms.results(...) returns"),
    ],
)
def test_a_slip_is_named_with_what_would_do(place: Path, slip: Callable[[ms.Run], object], words: str) -> None:
    run = ms.open_run(place / RUN)
    with pytest.raises(MatterstackError) as caught:
        slip(run)
    assert words in str(caught.value)


def test_a_suggestion_is_made_once(place: Path) -> None:
    with pytest.raises(ms.errors.InvalidConfigError) as caught:
        ms.open_run(place / RUN).configure("local", max_activ=3)
    assert str(caught.value).count("did you mean 'max_active'?") == 1


def test_a_run_that_was_removed_is_told_in_one_sentence(tmp_path: Path) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path)
    shutil.rmtree(run.path)
    with pytest.raises(ms.errors.RunNotFoundError, match=r"it was moved or removed\. Open the one you mean"):
        run.step()
