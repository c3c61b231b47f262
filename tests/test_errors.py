"""Errors: each leads to its section in troubleshooting, wherever it is shown and whatever process it comes from."""

from __future__ import annotations

import inspect
import multiprocessing
import pickle
import re
import traceback
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
