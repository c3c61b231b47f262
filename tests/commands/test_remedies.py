"""What messages say for cells is said for a shell: each call that has a command, and nothing else."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import matterstack as ms
from matterstack import cli
from matterstack.commands.remedies import CALLS, PHRASES, TABLES, as_typed

NAMED = re.compile(r"\b(?:run|ms|matterstack)\.([a-z_]+)\(")
PACKAGE = Path(ms.__file__).parent
#: What a shell cannot do: what takes objects of Python, and what shows them.
ONLY_IN_PYTHON = {"open_run", "reopen", "results", "runs", "task", "value"}
TYPED = {
    "run.step() or run.wait()": "matterstack step w/r or matterstack wait w/r",
    "see run.attempts": "see matterstack attempts w/r",
    "see run.tasks, and run.tasks_of": "see matterstack tasks w/r, and run.tasks_of",
    "run.explain() tells why": "matterstack explain w/r tells why",
    "run.inbox(); or run.respond('a', {'decision': 'retry'}), or 'skip'": (
        """matterstack inbox w/r; or matterstack respond w/r a '{"decision": "retry"}', or 'skip'"""
    ),
    "run.resume()": "matterstack resume w/r",
    "run.release('a')": "matterstack release w/r a",
    "run.retry('a b')  # as planned": "matterstack retry w/r 'a b'  # as planned",
    "run.retry('a', files={'x y': pathlib.Path('x y')})": "matterstack retry w/r a --file 'x y=x y'",
    "run.retry(task, resources={'memory_gib': ...})": "matterstack retry w/r TASK --memory-gib ...",
    "run.take_late('a')": "matterstack take-late w/r a",
    "run.take_environment() there": "matterstack take-environment w/r there",
    "run.tell() tries it": "matterstack tell w/r tries it",
    "run.tag('cathode')": "matterstack tag w/r cathode",
    'run.import_kits("a/back (1).zip")': "matterstack kits import w/r 'a/back (1).zip'",
    "run.import_kits() or the next step": "matterstack kits import w/r ARCHIVE or the next step",
    "run.configure('local', max_active=8)": "matterstack configure w/r --operator local max_active=8",
    "run.configure('local', memory_gib=...)": "matterstack configure w/r --operator local memory_gib=...",
    "run.configure(budget={'tasks': 500})": "matterstack configure w/r --budget tasks=500",
    "run.configure(budget={'core_h': ...}) raises": "matterstack configure w/r --budget core_h=... raises",
    "run.configure(budget={...}), then": "matterstack configure w/r --budget ..., then",
    "run.configure(notify='env:MY_ADDRESS')": """matterstack configure w/r 'notify="env:MY_ADDRESS"'""",
    "run.configure(notify=...) changes that": "matterstack configure w/r notify=... changes that",
    "ms.set_limits('oxides', furnace=2)": "matterstack limits oxides furnace=2",
    "ms.set_limits('oxides', furnace=..., base_path='b')": "matterstack limits oxides furnace=... --base-path b",
    "ms.set_limits('oxides', **{'slurm_jobs@hpc': 20})": "matterstack limits oxides slurm_jobs@hpc=20",
    "ms.release_reservations('oxides', run_id='r1')": "matterstack release-reservations oxides r1",
    "matterstack.trust('/a/b')": "matterstack trust /a/b",
}


def of_run(run: str = "w/r", base_path: str = ".") -> argparse.Namespace:
    return argparse.Namespace(run=run, base_path=base_path)


@pytest.mark.parametrize("text", TYPED)
def test_a_call_is_the_command_that_does_the_same(text: str) -> None:
    typed = as_typed(text, of_run())
    assert typed == TYPED[text]
    words = shlex.split(re.split(r"  #| or |; |, | tells| there| tries| raises| changes| and ", typed)[0])
    assert "matterstack" in words
    filled = [word.replace("...", "1" if "=" in word or words[1] == "retry" else "a=1") for word in words]
    cli.build().parser.parse_args(filled[filled.index("matterstack") + 1 :])


def test_every_call_that_has_a_command_is_tried_here() -> None:
    called = {name for text in TYPED for name in NAMED.findall(text)}
    assert called == set(CALLS)
    assert {name for text in TYPED for name in re.findall(r"run\.([a-z]+)\b(?!\()", text)} >= TABLES


def said() -> Iterator[str]:
    """Yield every text in the code of the package but docstrings."""
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text()
        if file.name == "remedies.py" or not (NAMED.search(text) or any(phrase[:10] in text for phrase in PHRASES)):
            continue
        tree = ast.parse(text)
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        bodies = [node.body for node in ast.walk(tree) if isinstance(node, kinds)]
        docstrings = {body[0].value for body in bodies if body and isinstance(body[0], ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
                yield node.value


def test_no_message_names_a_call_that_a_shell_would_not_know() -> None:
    texts = list(said())
    named = {name for text in texts for name in NAMED.findall(text)}
    assert named <= CALLS.keys() | ONLY_IN_PYTHON
    assert named >= ONLY_IN_PYTHON
    for phrase in PHRASES:
        assert any(phrase in text for text in texts), phrase


@pytest.mark.parametrize(
    "text",
    [
        "open_run(path, campaign=...)",
        "run = matterstack.open_run('r', campaign=Mine(...)).resume()",
        "run.retry('a').wait()",
        "run.retry('a', files=make())",
        "run.retry('a', nothing=1)",
        "run.retry('a'",
        "run.retry(b'a')",
        "run.retry(**{'nothing': 'a'})",
        "run.retry(**'a')",
        "run.tag(*tags)",
        "run.configure(budget=3)",
        "run.reopen(campaign=...)",
        "rerun.step()",
        "run.stepping()",
        "ms.values.register(...)",
    ],
)
def test_what_no_command_does_stays_as_it_is(text: str) -> None:
    assert as_typed(text, of_run()) == text


@pytest.mark.parametrize("text", ["run.retry(5)", "run.configure(5, a=[1, {}])", "ms.set_limits(1, base_path=2)"])
def test_what_makes_no_sense_is_shown_all_the_same(text: str) -> None:
    assert as_typed(text, of_run()).startswith("matterstack ")


def test_a_run_is_named_as_it_was_typed() -> None:
    assert as_typed("run.step()", of_run("my runs/r", "a b")) == "matterstack step 'my runs/r' --base-path 'a b'"
    assert as_typed("run.step()", argparse.Namespace()) == "matterstack step RUN"
    assert as_typed("run.step()", argparse.Namespace(place="none", base_path=".")) == "matterstack step RUN"


WORDS = "run. ms. retry( configure( set_limits( tag( budget= files= a=1 5 ... b'x' * ** - ( ) [ ] { } ' \" \\ \\d : = ,"
PIECES = st.sampled_from([*WORDS.split(), "\0", "\n", " ", "'a'"])


@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_text_can_be_shown(text: str) -> None:
    typed = as_typed(text, of_run())
    assert "matterstack" in typed or typed == text
