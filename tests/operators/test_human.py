"""A person answers: late, wrong, twice, half-written; and the run takes no harm."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from crashes import in_child, killed_at

import matterstack as ms
from matterstack import crash_points as testing
from matterstack.errors import (
    AnswerConflictError,
    AnswerRefusedError,
    InvalidConfigError,
    InvalidJsonError,
    InvalidTaskError,
    RunNotFoundError,
    RunStatusError,
    UnknownTaskError,
)
from matterstack.notebook.forms import RequestForm
from matterstack.operators.requests import notices

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1}, "note": {"type": "string"}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def patient_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a tick wait for who is told, however busy the machine is, and for nobody of a test before."""
    monkeypatch.setattr(notices, "_PATIENCE_S", 120.0)
    monkeypatch.setattr(notices, "_COMMAND_S", 120.0)
    monkeypatch.setattr(notices, "_under_way", weakref.WeakSet())


def ask(base: Path, *more: ms.Task, schema: Mapping[str, Any] = SCHEMA, task: Any = (), **settings: Any) -> ms.Run:
    """Return a run whose task ``pick`` waits for a person."""
    pick = ms.Task("pick", operator="human", instructions="# Pick one\n", schema=schema, assignee="Ada", **dict(task))
    run = ms.initialize_run(
        "w",
        ms.Workflow([pick, *more]),
        base_path=base,
        operators={"human": ms.HumanOperator(**settings), "local": ms.LocalOperator()},
    )
    run.step()
    return run


def folder(run: ms.Run, name: str = "0.pick.1") -> Path:
    return run.path / "operators/human" / name


def put(run: ms.Run, content: str | bytes, name: str = "response.json") -> Path:
    path = folder(run) / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def reason(run: ms.Run) -> str:
    return str(run.tasks.loc["0.pick", "reason"])


def test_the_request_is_whole_and_says_how_to_answer(tmp_path: Path) -> None:
    image = tmp_path / "cell.png"
    image.write_bytes(b"\x89PNG")
    flow = ms.Workflow(
        [
            ms.Task("relax", 'echo \'{"energy_eV": -3.5, "path": [1, 2]}\' > result.json; echo 1 > final.xyz'),
            ms.Task(
                "pick",
                operator="human",
                instructions="Which?",
                schema=SCHEMA,
                assignee="Ada",
                dependencies=["relax"],
                files={"final.xyz": ms.FromTask("relax", "final.xyz"), "cell.png": image},
            ),
        ]
    )
    run = ms.initialize_run(
        "w", flow, base_path=tmp_path, operators={"human": ms.HumanOperator(), "local": ms.LocalOperator()}
    )
    assert run.wait(timeout_s=120) is ms.RunStatus.RUNNING
    there = {path.name: path for path in folder(run).iterdir()}
    assert set(there) == {
        *("instructions.md", "schema.json", "response.template.json", "HOWTO.txt"),
        *("inputs.json", "results.csv", "final.xyz", "cell.png"),
        ".matterstack",
    }
    assert there["instructions.md"].read_text() == "For: Ada\n\nWhich?\n"
    assert json.loads(there["schema.json"].read_text()) == SCHEMA
    assert json.loads(there["response.template.json"].read_text()) == {"n": None, "note": ""}
    assert there["results.csv"].read_text() == "task_id,status,energy_eV\nrelax,COMPLETED,-3.5\n"
    assert "response.json" in there["HOWTO.txt"].read_text()


def test_a_bad_answer_goes_back_with_the_reasons_and_a_good_one_completes(tmp_path: Path) -> None:
    run = ask(tmp_path)
    put(run, '{"n": 0, "m": 1}')
    run.step()
    assert run.attempts.loc["0.pick.1", "status"] == "WAITING"
    wrong = ["$: 'm' was not asked for (asked for: 'n', 'note')", "$.n: must be at least 1, not 0"]
    errors = (folder(run) / "response.errors.md").read_text()
    for text in wrong:
        assert text in errors
        assert text in run.inbox()[0].reason
        assert text in repr(run.explain())
    assert (folder(run) / ".matterstack/rejected/1.json").read_text() == '{"n": 0, "m": 1}'
    before = len(run.events)
    for _ in range(3):
        run.step()
    assert len(run.events) == before, "an answer that was refused is refused once"
    put(run, '\ufeff{"n": 2}')
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert int(run.results.loc["0.pick", "n"]) == 2
    assert not (folder(run) / "response.errors.md").exists()
    verdict = json.loads((folder(run) / ".matterstack/verdict.json").read_text())
    kept = folder(run) / f".matterstack/accepted/{verdict['sha256']}.json"
    assert kept.read_bytes() == '\ufeff{"n": 2}'.encode()
    assert verdict["by"] in reason(run)
    assert verdict["by"]


@pytest.mark.parametrize(
    ("settings", "answers"),
    [
        ({}, ['{"n": 0}', '{"n": -1}', '{"n": -2}']),
        ({"max_rejections": 1}, ['{"n": 0}']),
        ({"on_invalid": "fail", "max_rejections": 9}, ['{"n": 0}']),
        ({"rejection_timeout_s": 0, "max_rejections": 9}, ['{"n": 0}']),
        ({}, ["no", "nope", "never"]),
    ],
)
def test_bad_answers_do_not_hang_the_task_for_ever(tmp_path: Path, settings: Any, answers: list[str]) -> None:
    run = ask(tmp_path, ms.Task("after", "true", dependencies=["pick"]), **settings)
    for answer in answers:
        assert run.tasks.loc["0.pick", "status"] == "SUBMITTED"
        put(run, answer)
        run.step()
        run.step()
    run.step()
    assert run.status is ms.RunStatus.FAILED
    assert list(run.tasks["status"]) == ["FAILED", "SKIPPED"]
    assert "bad" in reason(run)


def test_one_bad_answer_counts_once_however_often_it_is_looked_at(tmp_path: Path) -> None:
    run = ask(tmp_path)
    for answer in ['{"n": 0}', '{"n": -1}', '{"n": 0}', '{"n": -1}']:
        put(run, answer)
        for _ in range(3):
            ms.open_run(run.path).step()
    assert run.tasks.loc["0.pick", "status"] == "SUBMITTED"
    assert "refused answer 2 of 3" in reason(run)


def test_a_file_still_being_written_is_no_answer_yet(tmp_path: Path) -> None:
    run = ask(tmp_path, max_rejections=1)
    whole = '{"n": 1234, "note": "so be it"}'
    for length in range(len(whole)):  # a slow writer, and a look after every byte
        put(run, whole[:length])
        run.step()
        assert run.tasks.loc["0.pick", "status"] == "SUBMITTED", whole[:length]
    put(run, whole)
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_a_text_that_breaks_off_is_not_judged_before_it_has_lain_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matterstack.operators.requests import request_directory

    monkeypatch.setattr(request_directory, "_SETTLE_S", 600.0)  # however long the steps take
    run = ask(tmp_path, on_invalid="fail")
    path = put(run, '{"n": 12')
    for _ in range(4):  # the writer pauses between two pieces, and a busy run looks many times meanwhile
        os.utime(path)
        run.step()
    assert run.attempts.loc["0.pick.1", "status"] == "WAITING"
    put(run, '{"n": 123}')
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_what_stays_half_written_is_refused_in_the_end(tmp_path: Path) -> None:
    run = ask(tmp_path)
    put(run, '{"n": 1')
    assert run.wait(timeout_s=120) is ms.RunStatus.RUNNING, "wait() looks until it is judged, and then returns"
    assert "refused answer 1 of 3: line 1" in reason(run)


def test_no_answer_at_all_expires(tmp_path: Path) -> None:
    run = ask(tmp_path, task={"timeout_s": 0.001})
    run.step()
    assert "no good answer came within 0.001 s" in reason(run)
    with pytest.raises(RunStatusError, match="waits for no answer"):
        run.respond("pick", {"n": 1})


TABLE = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "formula": {"type": "string"},
            "gap_eV": {"type": "number"},
            "synthesize": {"type": "boolean"},
        },
        "required": ["formula", "gap_eV"],
        "additionalProperties": False,
    },
}


def test_a_table_answers_a_list_of_flat_objects(tmp_path: Path) -> None:
    run = ask(tmp_path, schema=TABLE)
    assert (folder(run) / "response.template.csv").read_text() == "formula,gap_eV,synthesize\n"
    put(run, "formula,gap_eV,synthesize\nLiCoO2,many,true\n", "response.csv")
    assert run.wait(timeout_s=120) is ms.RunStatus.RUNNING
    assert "line 2, column gap_eV: must be a number, not 'many'" in reason(run)
    put(run, 'formula,gap_eV,synthesize\nLiCoO2,2.7,TRUE\n"Li,Fe",3,\n', "response.csv")
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert run.results.loc["0.pick", "data"] == [
        {"formula": "LiCoO2", "gap_eV": 2.7, "synthesize": True},
        {"formula": "Li,Fe", "gap_eV": 3},
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("formula,formula\na,b\n", "once"),
        ("formula,gap_eV\na\n", "line 2: 1 cells, but 2 columns"),
        ("formula,gap_eV\n\0,2\n", "NUL"),
        (b"formula\n\xff\n", "UTF-8"),
        ("", "the first line"),
        ('formula,gap_eV\n"a,2\n', "line"),
    ],
)
def test_a_table_that_is_none(tmp_path: Path, content: Any, says: str) -> None:
    run = ask(tmp_path, schema=TABLE)
    put(run, content, "response.csv")
    assert run.wait(timeout_s=120) is ms.RunStatus.RUNNING
    assert says in reason(run)


def test_a_table_is_refused_where_none_is_asked_for_and_so_are_two_answers(tmp_path: Path) -> None:
    run = ask(tmp_path)
    put(run, "n\n1\n", "response.csv")
    run.wait(timeout_s=120)
    assert "answer in response.json" in reason(run)
    put(run, '{"n": 1}')
    run.step()
    assert "both" in reason(run)
    (folder(run) / "response.csv").unlink()
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("response.json.txt", "rename it to response.json"),
        ("Response.JSON", "rename it to response.json"),
        ("response (1).json", "rename it to response.json"),
        ("response - Kopie.json", "rename it to response.json"),
        ("responce.json", "rename it to response.json"),
        ("response", "rename it to response.json"),
        ("response.txt", "rename it to response.json"),
        ("response.docx", "save it as plain text"),
        ("response.CSV", "no table is asked for, so answer in response.json"),
        ("response.xlsx", "no table is asked for, so answer in response.json"),
        ("response (\x1b[31m2).json", "rename it to response.json"),
    ],
)
def test_a_name_that_is_nearly_right_is_answered(tmp_path: Path, name: str, said: str) -> None:
    run = ask(tmp_path)
    put(run, '{"n": 1}', name)
    run.step()
    assert said in reason(run)
    assert name.split()[0] in reason(run)
    assert "\x1b" not in reason(run)
    assert not (folder(run) / ".matterstack/rejected").exists(), "nobody's try is spent on a name"
    (folder(run) / name).rename(folder(run) / "response.json")
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_a_template_that_was_filled_in_and_saved_in_place_is_answered(tmp_path: Path) -> None:
    run = ask(tmp_path)
    template = put(run, '{"n": 1, "note": ""}', "response.template.json")
    later = template.stat().st_mtime + 60
    os.utime(template, (later, later))
    run.step()
    assert reason(run) == "response.template.json was changed: if that is the answer, save it as response.json"
    template.rename(folder(run) / "response.json")
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_no_template_is_taken_for_a_changed_one_however_long_it_took_to_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine takes seconds to load openpyxl, and a busy disk to take files in: so they are made older here."""
    pytest.importorskip("openpyxl")
    from matterstack.operators.requests import human

    def minutes_pass() -> None:
        for schema in tmp_path.rglob("schema.json"):
            for path in schema.parent.iterdir():
                os.utime(path, (path.stat().st_mtime - 100,) * 2)

    workbook, sync = human.template_workbook, human.sync_tree
    monkeypatch.setattr(human, "template_workbook", lambda *given: (workbook(*given), minutes_pass())[0])
    monkeypatch.setattr(human, "sync_tree", lambda *given: (sync(*given), minutes_pass())[0])
    run = ask(tmp_path, schema={"type": "array", "items": SCHEMA})
    assert (folder(run) / "response.template.xlsx").stat().st_size
    run.step()
    assert "was changed" not in reason(run)


def test_names_that_have_nothing_to_do_with_an_answer(tmp_path: Path) -> None:
    run = ask(tmp_path)
    for name in (
        "responsibilities.txt",
        "notes.json",
        ".response.json.swp",
        "~$response.xlsx",
        "response.json~",
        "request.json",
    ):
        put(run, "x", name)
    run.step()
    assert reason(run) == "response.json in 0.pick.1, from Ada"


def test_the_page_says_which_try_it_was_and_that_the_request_is_over(tmp_path: Path) -> None:
    run = ask(tmp_path, max_rejections=2)
    page = folder(run) / "response.errors.md"
    put(run, '{"n": 0}')
    run.step()
    assert "This was try 1 of 2." in page.read_text()
    put(run, '{"n": -1}')
    run.step()
    assert "This request is over" in page.read_text()
    assert "It was failed: 2 different bad answers were given" in page.read_text()
    assert "$.n: must be at least 1, not -1" in page.read_text()


@pytest.mark.parametrize("ending", ["expired", "cancelled", "answered"])
def test_who_answers_too_late_is_told(tmp_path: Path, ending: str) -> None:
    run = ask(tmp_path, task={"timeout_s": 0.001} if ending == "expired" else {})
    if ending == "cancelled":
        run.cancel()
    elif ending == "answered":
        run.respond("pick", {"n": 1})
    run.step()
    page = (folder(run) / "response.errors.md").read_text()
    assert f"It was {ending}" in page
    assert "what is saved here from now on has no effect" in page


def test_a_file_that_may_not_be_read_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matterstack.operators.requests import request_directory

    run = ask(tmp_path, max_rejections=1)
    put(run, '{"n": 1}')
    true_open = request_directory.open_inside

    def refuse(root: Path, relative: str) -> int:
        if relative == "response.json":
            raise PermissionError(13, "Permission denied")
        return true_open(root, relative)

    monkeypatch.setattr(request_directory, "open_inside", refuse)
    for _ in range(3):
        run.step()
    assert run.tasks.loc["0.pick", "status"] == "SUBMITTED"
    assert "chmod a+r response.json" in reason(run)
    monkeypatch.undo()
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


NONSENSE = ["[]", "null", "{}", '"x"', "1" * 399, "[" * 5000, '{"outcome": {}}', "\ud800"]


@pytest.mark.parametrize("content", NONSENSE)
@pytest.mark.parametrize("name", ["verdict.json", "rejected/1.reason.json", "answer.json"])
def test_a_bad_file_in_a_request_hurts_that_request_alone(tmp_path: Path, name: str, content: str) -> None:
    other = ms.Task("other", operator="human", schema=SCHEMA)
    run = ask(tmp_path, other)
    bad = folder(run) / ".matterstack" / name
    bad.parent.mkdir(exist_ok=True)
    bad.write_bytes(content.encode(errors="surrogatepass"))
    put(run, "no JSON")  # so that each of them is read
    (folder(run, "0.other.1") / "response.json").write_text('{"n": 1}')
    run.step()
    assert run.tasks.loc["0.other", "status"] == "COMPLETED"
    assert run.tasks.loc["0.pick", "status"] == "SUBMITTED"
    if name != "answer.json":
        assert f".matterstack/{name} is not as it was written" in reason(run)
    bad.unlink(missing_ok=True)
    put(run, '{"n": 1}')
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_a_bad_file_in_a_request_does_not_keep_others_from_being_cancelled(tmp_path: Path) -> None:
    run = ask(tmp_path, ms.Task("other", operator="human", schema=SCHEMA))
    (folder(run) / ".matterstack/verdict.json").write_text("[]")
    run.cancel()
    assert set(run.attempts["status"]) == {"CANCELLED"}
    other = folder(run, "0.other.1") / ".matterstack/verdict.json"
    assert json.loads(other.read_text())["outcome"] == "cancelled"


@pytest.mark.parametrize(
    "change",
    [
        {"at": 10**30},
        {"at": "soon"},
        {"at": True},
        {"by": 5},
        {"outcome": {"a": 1}},
        {"sha256": "../../../state"},
        {"source": "response.py"},
        {"more": 1},
    ],
)
def test_a_verdict_with_parts_that_make_no_sense(tmp_path: Path, change: Any) -> None:
    run = ask(tmp_path)
    run.respond("pick", {"n": 1})
    verdict = folder(run) / ".matterstack/verdict.json"
    good = verdict.read_text()
    verdict.write_text(json.dumps(json.loads(good) | change))
    run.step()
    assert run.tasks.loc["0.pick", "status"] == "SUBMITTED"
    assert "verdict.json is not as it was written" in reason(run)
    verdict.write_text(good)
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_values_that_are_not_plain_are_named_by_their_place(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    run = ask(tmp_path)
    with pytest.raises(AnswerRefusedError, match=r"answer\['n'\] is a numpy.int64: use int\(...\)"):
        run.respond("pick", {"n": numpy.int64(3)})
    with pytest.raises(
        InvalidJsonError, match=r"task 't': .*parameters\['x'\]\[1\] is a numpy.ndarray: use .tolist\(\)"
    ):
        ms.Task("t", "true", parameters={"x": [0, numpy.zeros(2)]})


def test_a_cell_answers_through_the_same_checks(tmp_path: Path) -> None:
    run = ask(tmp_path)
    before = sorted(os.listdir(folder(run)))
    with pytest.raises(AnswerRefusedError, match=r"\$\.n: must be a whole number, not 'two'"):
        run.respond("pick", {"n": "two"})
    assert sorted(os.listdir(folder(run))) == before
    with pytest.raises(UnknownTaskError):
        run.respond("nobody", {})
    run.respond("pick", {"n": 2})
    with pytest.raises(AnswerConflictError, match="answered by"):
        run.respond("pick", {"n": 3})
    put(run, '{"n": 4}')  # too late
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert int(run.results.loc["0.pick", "n"]) == 2


def test_of_many_answers_at_once_one_wins_and_the_others_are_told(tmp_path: Path) -> None:
    run = ask(tmp_path)
    together = threading.Barrier(8)
    told: list[str] = []
    won: list[int] = []

    def answer(n: int) -> None:
        mine = ms.open_run(run.path)
        together.wait(timeout=120)
        try:
            mine.respond("pick", {"n": n})
            won.append(n)
        except AnswerConflictError as error:
            told.append(str(error))

    threads = [threading.Thread(target=answer, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=180)
    assert len(won) == 1
    assert len(told) == 7
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert int(run.results.loc["0.pick", "n"]) == won[0]


def test_an_answer_replaced_after_the_check_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ask(tmp_path)
    put(run, '{"n": 1}')

    def replace(point: str) -> None:
        if point in ("answer.accepting", "answer.decided", "collect.begin"):
            put(run, '{"n": "evil"}')

    monkeypatch.setattr(testing, "_armed", replace)
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert int(run.results.loc["0.pick", "n"]) == 1


def test_accepted_bytes_that_were_changed_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ask(tmp_path)
    put(run, '{"n": 1}')

    def forge(point: str) -> None:
        if point == "collect.begin":
            (kept,) = (folder(run) / ".matterstack/accepted").iterdir()
            kept.write_text('{"n": 7}')

    monkeypatch.setattr(testing, "_armed", forge)
    run.step()
    assert "was changed afterwards" in reason(run)


@pytest.mark.parametrize("point", ["answer.accepting", "answer.deciding", "answer.decided", "collect.begin"])
def test_killed_while_it_accepts(tmp_path: Path, point: str) -> None:
    run = ask(tmp_path, max_rejections=1)
    put(run, '{"n": 1}')
    assert killed_at(point, 1, lambda: ms.open_run(run.path).step())
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert len(list((folder(run) / ".matterstack/accepted").iterdir())) == 1


@pytest.mark.parametrize("point", ["answer.refusing", "answer.refused", "tick.polled", "store.commit"])
def test_killed_while_it_refuses(tmp_path: Path, point: str) -> None:
    run = ask(tmp_path, max_rejections=2)
    put(run, '{"n": 0}')
    assert killed_at(point, 1, lambda: ms.open_run(run.path).step())
    run.step()
    assert "refused answer 1 of 2" in reason(run)
    put(run, '{"n": 1}')
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_a_run_in_another_kernel_asks_with_the_same_patience(tmp_path: Path) -> None:
    run = ask(tmp_path, max_rejections=1)
    put(run, '{"n": 0}')
    again = ms.open_run(run.path)
    again.step()
    again.step()
    assert run.status is ms.RunStatus.FAILED


def test_cancelling_withdraws_the_request(tmp_path: Path) -> None:
    run = ask(tmp_path)
    run.cancel()
    assert list(run.attempts["status"]) == ["CANCELLED"]
    assert json.loads((folder(run) / ".matterstack/verdict.json").read_text())["outcome"] == "cancelled"
    with pytest.raises(RunStatusError):
        run.respond("pick", {"n": 1})
    assert len(run.inbox()) == 0


def test_the_request_directory_is_removed_by_somebody(tmp_path: Path) -> None:
    run = ask(tmp_path, ms.Task("other", "true"))
    folder(run).rename(tmp_path / "gone")
    run.step()
    assert run.tasks.loc["0.pick", "status"] == "SUBMITTED"
    (tmp_path / "gone").rename(folder(run))
    put(run, '{"n": 1}')
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


# -- approval gates --------------------------------------------------------------------------


class Gated(ms.Campaign):
    """Plan a gate, what waits behind it and something beside it; plan again when the gate says so."""

    def __init__(self, on_reject: str) -> None:
        self.on_reject = on_reject

    def initial_state(self) -> Any:
        return {"comments": [], "over": False}

    def plan(self, state: Any) -> ms.Workflow | None:
        if state["over"]:
            return None
        return ms.Workflow(
            [
                ms.Task("gate", operator="human", schema=ms.Approve(self.on_reject)),
                ms.Task("behind", "true", dependencies=["gate"]),
                ms.Task("beside", "true", operator="slow"),
            ]
        )

    def analyze(self, state: Any, results: Mapping[str, ms.TaskResult]) -> Any:
        said = results["gate"].data
        approved = said.get("decision") == "approve"
        return {"comments": [*state["comments"], said.get("comment")], "over": approved or self.on_reject == "skip"}


class Slow(ms.LocalOperator):
    """Take nothing before the gate is answered."""

    open = False

    def max_live(self, directory: Path) -> int:
        return 1 if self.open else 0


def gated(base: Path, on_reject: str) -> tuple[ms.Run, Slow]:
    slow = Slow()
    operators = {"human": ms.HumanOperator(), "local": ms.LocalOperator(), "slow": slow}
    run = ms.initialize_run("w", Gated(on_reject), base_path=base, operators=operators)
    run.step()
    return run, slow


def test_a_gate_that_is_approved(tmp_path: Path) -> None:
    run, slow = gated(tmp_path, "fail")
    run.respond("gate", {"decision": "approve"})
    slow.open = True
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


@pytest.mark.parametrize(
    ("on_reject", "statuses", "ends"),
    [
        ("fail", ["FAILED", "SKIPPED", "COMPLETED"], ms.RunStatus.FAILED),
        ("skip", ["SKIPPED", "SKIPPED", "COMPLETED"], ms.RunStatus.COMPLETED),
    ],
)
def test_a_gate_that_is_rejected(tmp_path: Path, on_reject: str, statuses: list[str], ends: ms.RunStatus) -> None:
    run, slow = gated(tmp_path, on_reject)
    with pytest.raises(AnswerRefusedError, match=r"\$\.comment: is missing"):
        run.respond("gate", {"decision": "reject"})
    run.respond("gate", {"decision": "reject", "comment": "too toxic"})
    run.step()
    slow.open = True
    assert run.wait(timeout_s=120) is ends
    assert list(run.tasks["status"]) == statuses
    assert "too toxic" in str(run.tasks.loc["0.gate", "reason"])
    if ends is ms.RunStatus.COMPLETED:
        assert run.campaign_state["comments"] == ["too toxic"]


def test_a_gate_that_has_the_campaign_plan_again(tmp_path: Path) -> None:
    run, slow = gated(tmp_path, "replan")
    run.respond("gate", {"decision": "reject", "comment": "add a dopant"})
    run.step()
    assert run.iteration == 1
    assert list(run.tasks["status"])[:3] == ["SKIPPED", "SKIPPED", "SKIPPED"]
    assert run.campaign_state["comments"] == ["add a dopant"]
    run.step()
    run.respond("gate", {"decision": "approve"})
    slow.open = True
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert run.campaign_state["comments"] == ["add a dopant", None]


def test_an_answer_names_its_request_so_that_no_later_one_is_answered_by_it(tmp_path: Path) -> None:
    """A form left open for one round, submitted in the next, approves nothing."""
    run, slow = gated(tmp_path, "replan")
    (first,) = run.inbox()
    form = RequestForm(first, lambda _: run)
    put_into = run.path / "operators/human" / first.name
    (put_into / "response.json").write_text('{"decision": "reject", "comment": "add a dopant"}')
    run.step()
    run.step()
    (second,) = run.inbox()
    assert (first.name, second.name) == ("0.gate.1", "1.gate.1")
    sent: list[Any] = []
    form.send = sent.append
    form._heard(None, {"value": {"decision": "approve"}, "submit": True, "number": 1}, None)
    assert "0.gate.1" in sent[0]["outcome"]
    assert "waits no more" in form.over
    with pytest.raises(AnswerConflictError, match=r"0\.gate\.1 waits no more.*inbox"):
        run.respond("gate", {"decision": "approve"}, iteration=0, attempt=1)
    with pytest.raises(UnknownTaskError, match=r"no attempt 7"):
        run.respond("gate", {"decision": "approve"}, iteration=1, attempt=7)
    assert run.inbox()[0].name == second.name
    RequestForm(second, lambda _: run)._heard(
        None, {"value": {"decision": "approve"}, "submit": True, "number": 1}, None
    )
    slow.open = True
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_an_earlier_answer_does_not_approve_a_later_gate(tmp_path: Path) -> None:
    """Neither its file, moved here with its owner and time, nor the verdict on it."""
    run, slow = gated(tmp_path, "replan")
    old = run.path / "operators/human/0.gate.1"
    run.respond("gate", {"decision": "reject", "comment": "add a dopant"})
    run.step()
    run.step()
    assert run.iteration == 1
    new = run.path / "operators/human/1.gate.1"
    for name in ("verdict.json", "accepted"):
        (old / ".matterstack" / name).rename(new / ".matterstack" / name)
    run.step()
    assert "it is that of another request" in str(run.tasks.loc["1.gate", "reason"])
    (new / ".matterstack/verdict.json").unlink()

    answer = new / "response.json"
    answer.write_text('{"decision": "approve"}')
    an_hour_ago = answer.stat().st_mtime - 3600
    os.utime(answer, (an_hour_ago, an_hour_ago))
    run.step()
    assert "before this was asked, so it is no approval of it" in str(run.tasks.loc["1.gate", "reason"])
    assert run.tasks.loc["1.gate", "status"] == "SUBMITTED"
    os.utime(answer)  # saved again
    slow.open = True
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


# -- what is refused before anything starts --------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "intger"}, "not a JSON Schema"),
        ({"properties": []}, "not a JSON Schema"),
        ({"$ref": "https://example.org/schema.json"}, "nothing is fetched"),
        ({"properties": {"a": {"$ref": "#/$defs/nowhere"}}}, "nowhere"),
        ({"$ref": "#"}, "without end"),
        ({"$schema": "https://example.org/draft-99"}, "not known"),
        ({"$ref": "file:///etc/passwd"}, "nothing is fetched"),
    ],
)
def test_a_schema_that_cannot_be_obeyed_makes_no_run(tmp_path: Path, schema: Any, says: str) -> None:
    with pytest.raises(InvalidTaskError, match="pick") as caught:
        ask(tmp_path, schema=schema)
    assert says in str(caught.value)
    assert list(ms.runs("w", base_path=tmp_path)["run_id"]) == []


def test_drafts_references_and_formats_are_obeyed(tmp_path: Path) -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"day": {"type": "string", "format": "date"}, "site": {"format": "uri"}},
        "properties": {"day": {"$ref": "#/definitions/day"}, "site": {"$ref": "#/definitions/site"}},
    }
    run = ask(tmp_path, schema=schema)
    with pytest.raises(AnswerRefusedError, match="must be a valid date"):
        run.respond("pick", {"day": "31 February"})
    with pytest.raises(AnswerRefusedError, match="must be a valid uri"):
        run.respond("pick", {"site": "not a uri"})
    run.respond("pick", {"day": "2026-11-24", "site": "https://example.org"})


def test_a_pattern_that_backtracks_and_an_answer_that_makes_it_do_not_hold_the_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matterstack.operators.requests import check_apart

    monkeypatch.setattr(check_apart, "_CHECK_S", 1)
    run = ask(tmp_path, schema={"properties": {"x": {"pattern": "^(a+)+$"}}})
    put(run, json.dumps({"x": "a" * 60 + "!"}))
    assert run.wait(timeout_s=180) is ms.RunStatus.RUNNING  # a second of computing, not of the clock
    assert "cannot be checked against its schema within 1 s" in reason(run)
    put(run, json.dumps({"x": "a" * 60}))
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED


def test_files_of_a_task_that_would_hide_the_request(tmp_path: Path) -> None:
    with pytest.raises(InvalidTaskError, match="a name of the run's own"):
        ask(tmp_path, task={"files": {"response.json": "{}"}})


@pytest.mark.parametrize(
    "settings",
    [{"max_rejections": 0}, {"rejection_timeout_s": -1}, {"on_invalid": "cry"}, {"notify": "mail"}, {"notify": []}],
)
def test_settings_that_make_no_sense(settings: Any) -> None:
    with pytest.raises(InvalidConfigError):
        ms.HumanOperator(**settings)


# -- the inbox and notices -------------------------------------------------------------------


def test_every_waiting_thing_is_in_the_inbox(tmp_path: Path) -> None:
    run = ask(tmp_path)
    other = ask(tmp_path)
    (request,) = run.inbox()
    assert (request.task_id, request.assignee, request.instructions) == ("pick", "Ada", "# Pick one\n")
    assert request.directory == folder(run)
    both = ms.inbox("w", base_path=tmp_path)
    assert {item.run_id for item in both} == {run.run_id, other.run_id}
    frame = both.frame
    assert list(frame["assignee"]) == ["Ada", "Ada"]
    assert str(frame["since"].dtype).startswith("datetime64")
    assert "Pick one" in repr(both)
    with pytest.raises(RunNotFoundError, match="there is no workspace 'nowhere'"):
        ms.inbox("nowhere", base_path=tmp_path)


def test_text_of_people_is_escaped_where_it_is_shown(tmp_path: Path) -> None:
    run = ask(tmp_path)
    put(run, json.dumps({"n": "</script><img src=x onerror=alert(1)>\x1b[31m\u202e"}))
    run.step()
    for html in (run.inbox()._repr_html_(), run.explain()._repr_html_()):
        assert "<img" not in html
        assert "&lt;img" in html
    for text in (repr(run.inbox()), (folder(run) / "response.errors.md").read_text()):
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_somebody_is_told_once_a_request_and_once_a_refusal(tmp_path: Path) -> None:
    told: list[Any] = []
    run = ask(tmp_path, notify=told.append)
    run.step()
    for answer in ['{"n": 0}', '{"n": -1}']:
        put(run, answer)
        run.step()
        run.step()
    assert [notice.event for notice in told] == ["request", "refusal", "refusal"]
    assert told[0].assignee == "Ada"
    assert told[0].directory == str(folder(run))
    assert "must be at least 1" in told[1].text
    assert ms.open_run(run.path)._session.missing == ("human",), "a function cannot be stored"


def test_a_command_is_told(tmp_path: Path) -> None:
    program = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"
    run = ask(tmp_path, notify=[sys.executable, "-c", program, str(tmp_path / "mail")])
    run.step()
    (line,) = (tmp_path / "mail").read_text().splitlines()
    assert json.loads(line)["task_id"] == "pick"
    assert ms.open_run(run.path)._session.missing == ()


@pytest.mark.parametrize("notify", [["/no/such/program"], ["false"], lambda notice: 1 / 0])
def test_telling_that_fails_is_logged_and_hurts_nobody(
    tmp_path: Path, notify: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        run = ask(tmp_path, notify=notify)
        run.step()
    assert len([record for record in caplog.records if "notify of 0.pick.1" in record.getMessage()]) == 1
    run.respond("pick", {"n": 1})
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_telling_that_hangs_does_not_hold_the_tick_for_each_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[float | None] = []
    true_join = threading.Thread.join

    def join(thread: threading.Thread, timeout: float | None = None) -> None:
        if thread.name == "matterstack-notify":
            joined.append(timeout)
        true_join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", join)
    monkeypatch.setattr(notices, "_PATIENCE_S", 0.2)
    over = threading.Event()
    more = [ms.Task(f"ask{i}", operator="human") for i in range(20)]
    run = ask(tmp_path, *more, notify=lambda notice: over.wait())
    assert sum(timeout or 0 for timeout in joined) == pytest.approx(0.2)
    assert len(joined) == 21
    over.set()
    run.respond("pick", {"n": 1})
    run.step()
    assert run.tasks.loc["0.pick", "status"] == "COMPLETED"


def test_an_answer_survives_the_death_of_who_gave_it(tmp_path: Path) -> None:
    run = ask(tmp_path)
    assert in_child(lambda: ms.open_run(run.path).respond("pick", {"n": 5})) == 0
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert int(run.results.loc["0.pick", "n"]) == 5
