"""Every way a file of JSON can be bad: the tick neither raises nor blocks, and a good answer afterwards is taken."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_jsonschema import from_schema

import matterstack as ms
from matterstack.core.schemas import check_schema, template, violations
from matterstack.core.strict_json import parse_json
from matterstack.errors import InvalidJsonError, InvalidTaskError
from matterstack.operators.requests import base as requests_base
from matterstack.operators.requests import request_directory
from matterstack.operators.requests.request_directory import RequestDirectory

SCHEMA = {"type": "object", "properties": {"n": {"type": "number", "minimum": 1}}, "required": ["n"]}

#: Contents, and a word of the reason that is shown.
CONTENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "may still be being written"),
    "spaces": (b" \n\t", "may still be being written"),
    "no JSON": (b"hello", "Expecting value"),
    "NUL bytes": (b"\0" * 100, "Expecting value"),
    "NUL inside": (b'{"n": "a\0b"}', "control character"),
    "NUL escaped": (b'{"n": "a\\u0000b"}', "must be a number"),
    "UTF-16": ('{"n": 2}'.encode("utf-16"), "not UTF-8"),
    "UTF-16 without a mark": ('{"n": 2}'.encode("utf-16-le"), "line 1"),
    "UTF-32": ('{"n": 2}'.encode("utf-32"), "not UTF-8"),
    "Latin-1": ('{"n": "\xe9"}'.encode("latin-1"), "not UTF-8"),
    "overlong UTF-8": (b'{"n": "\xc0\xaf"}', "not UTF-8"),
    "two byte order marks": (b"\xef\xbb\xbf\xef\xbb\xbf{}", "line 1"),
    "lone high surrogate": (b'{"n": "\\ud800"}', "surrogate"),
    "lone low surrogate in a key": (b'{"\\udc00": 1}', "surrogate"),
    "encoded surrogate": (b'{"n": "\xed\xa0\x80"}', "not UTF-8"),
    "NaN": (b'{"n": NaN}', "NaN is not JSON"),
    "Infinity": (b'{"n": Infinity}', "Infinity is not JSON"),
    "minus Infinity": (b'{"n": -Infinity}', "Infinity is not JSON"),
    "too large for a double": (b'{"n": 1e999}', "too large"),
    "100,000 digits": (b'{"n": ' + b"9" * 100_000 + b"}", "digits"),
    "399 digits": (b'{"n": -' + b"9" * 399 + b"}", "at least 1"),
    "duplicate keys": (b'{"n": 2, "n": 3}', "twice"),
    "duplicate keys inside": (b'{"n": 2, "x": {"a": 1, "a": 1}}', "twice"),
    "duplicate keys by escape": (b'{"n": 2, "\\u006e": 3}', "twice"),
    "deep list": (b"[" * 100_000, "deeper than 100"),
    "deep and closed": (b"[" * 5000 + b"]" * 5000, "deeper than 100"),
    "deep object": (b'{"n":' * 3000, "deeper than 100"),
    "trailing comma": (b'{"n": 2,}', "line 1"),
    "comment": (b'{"n": 2} // two', "Extra data"),
    "two values": (b'{"n": 2}{"n": 3}', "Extra data"),
    "single quotes": (b"{'n': 2}", "line 1"),
    "Python": (b'{"n": None}', "Expecting value"),
    "leading zero": (b'{"n": 02}', "line 1"),
    "hexadecimal": (b'{"n": 0x2}', "line 1"),
    "plus": (b'{"n": +2}', "line 1"),
    "no string end": (b'{"n": "', "may still be being written"),
    "null": (b"null", "may still be being written"),
    "true": (b"true", "may still be being written"),
    "list": (b"[2]", "must be an object"),
    "text": (b'"n"', "must be an object"),
    "number": (b"2", "may still be being written"),
    "boolean for a number": (b'{"n": true}', "must be a number"),
    "text for a number": (b'{"n": "2"}', "must be a number"),
    "999,000 bytes of text": (b'{"n": "' + b"x" * 999_000 + b'"}', "must be a number"),
    "half a million brackets": (b"[" + b"[]," * 300_000 + b"[]]", "must be an object"),
    "one byte too many": (b'{"n": 2, "x": "' + b"x" * 999_990 + b'"}', "at most are read"),
    "prototype": (b'{"__proto__": {"n": 2}, "constructor": 1}', "$.n: is missing"),
    "markup": (b'{"n": "</script><img src=x onerror=alert(1)>"}', "must be a number"),
}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each tick see a check to its end, and what is half written lie still, however busy this machine is."""
    monkeypatch.setattr(requests_base, "_CHECKS_S", 120.0)
    monkeypatch.setattr(request_directory, "_SETTLE_S", 600.0)


class Both:
    """A run with a question, and in every tick another task beside it."""

    def __init__(self, base: Path, many: int) -> None:
        class More(ms.Campaign):
            def plan(self, state: Any) -> ms.Workflow:
                ask = ms.Task("ask", operator="human", schema=SCHEMA)
                return ms.Workflow([ask, *(ms.Task(f"beside{i}", operator="easy") for i in range(many))])

            def analyze(self, state: Any, results: Any) -> Any:
                return state

        operators = {"human": ms.HumanOperator(max_rejections=10_000), "easy": Easy()}
        self.run = ms.initialize_run("w", More(), base_path=base, operators=operators)
        self.run.step()
        self.path = self.run.path / "operators/human/0.ask.1/response.json"

    def look(self) -> str:
        """Make two ticks, or more while a check goes on beside them; return the reason shown.

        Another task has to complete in each.
        """
        for turn in range(20):
            report = self.run.step()
            assert report.completed == 1
            reason = str(self.run.inbox()[0].reason)
            if turn and "is there, and it" not in reason:
                break
        assert self.run.attempts.loc["0.ask.1", "status"] == "WAITING"
        assert reason in repr(self.run.explain())
        return reason

    def answer_well(self) -> None:
        self.path.unlink(missing_ok=True)
        self.path.write_text('{"n": 2}')
        self.run.step()
        assert self.run.tasks.loc["0.ask", "status"] == "COMPLETED"


class Easy(ms.LocalOperator):
    """One attempt at a time, which has ended when it is looked at."""

    def max_live(self, directory: Path) -> int:
        return 1

    def submit(self, attempts: Any) -> Any:
        from matterstack.core.attempts import Submitted

        return {attempt.token: Submitted() for attempt in attempts}

    def check_status(self, attempts: Any) -> Any:
        from matterstack.core.attempts import Observation, Seen

        return {attempt.token: Observation(Seen.ENDED) for attempt in attempts}

    def check_task(self, task: ms.Task) -> None:
        return

    def collect_results(self, attempt: Any) -> Any:
        return {}


def test_every_bad_content(tmp_path: Path) -> None:
    both = Both(tmp_path, 2 * len(CONTENTS) + 40)
    for name, (content, says) in CONTENTS.items():
        both.path.write_bytes(content)
        assert says in both.look(), name
    both.answer_well()


def test_truncated_at_every_byte(tmp_path: Path) -> None:
    whole = '{"n": 2.5e1, "note": "é\\u00e9 \\"x\\"", "list": [1, null, true, {"a": []}]} '.encode()
    both = Both(tmp_path, 2 * len(whole))
    for length in range(len(whole) - 1):
        both.path.write_bytes(whole[:length])
        both.look()
    both.answer_well()


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(path.parent)  # the name of a socket may be 107 bytes long
        try:
            listening.bind(path.name)
        finally:
            os.chdir(here)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, _link, _dangling, _loop, _socket, _device])
def test_what_is_no_plain_file_is_refused_without_blocking(tmp_path: Path, make: Callable[[Path], None]) -> None:
    both = Both(tmp_path, 24)
    make(both.path)
    assert "plain file" in both.look()
    if both.path.is_dir() and not both.path.is_symlink():
        both.path.rmdir()
    both.answer_well()


def test_a_hundred_megabytes_are_refused_without_being_read(tmp_path: Path) -> None:
    both = Both(tmp_path, 24)
    with open(both.path, "wb") as file:
        file.truncate(100_000_000)
    took = []
    for _ in range(5):  # the best of five: the machine may be busy
        exchange = RequestDirectory(both.path.parent, SCHEMA)
        begin = time.perf_counter()
        received = exchange._receive()
        took.append(time.perf_counter() - begin)
        assert received is not None
        assert received.raw == b""
    print(f"a 100 MB answer is refused in {min(took) * 1000:.2f} ms")
    assert "holds 100000000 bytes; 1000000 at most are read" in both.look()
    both.answer_well()


def test_an_answer_that_grows_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = Both(tmp_path, 24)
    both.path.write_bytes(b"{" + b" " * 900_000)
    true_fstat = os.fstat

    def grow(descriptor: int) -> os.stat_result:
        status = true_fstat(descriptor)
        if status.st_size == 900_001:
            with open(both.path, "ab") as file:
                file.write(b" " * 200_000)
        return status

    monkeypatch.setattr(os, "fstat", grow)
    assert "at most are read" in both.look()
    monkeypatch.undo()
    both.answer_well()


@pytest.mark.parametrize(
    "name",
    [
        ".matterstack",
        ".matterstack/rejected",
        ".matterstack/accepted",
        ".matterstack/verdict.json",
        "response.errors.md",
        ".matterstack/answer.json",
    ],
)
def test_traps_in_the_request_directory(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("as it was")
    both = Both(tmp_path, 24)
    trap = both.path.parent / name
    if name == ".matterstack":
        shutil.rmtree(trap)
    trap.parent.mkdir(exist_ok=True)
    trap.symlink_to(outside / "precious" if trap.suffix in (".json", ".md") else outside)
    both.path.write_text('{"n": 3}' if name == ".matterstack/accepted" else '{"n": 0}')
    both.look()
    assert [path.name for path in outside.iterdir()] == ["precious"]
    assert (outside / "precious").read_text() == "as it was"
    trap.unlink(missing_ok=True)
    both.answer_well()


def test_full_disk_while_an_answer_is_refused_or_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matterstack import crash_points as testing

    def full(point: str) -> None:
        if point.startswith("answer."):
            raise OSError(28, "No space left on device")

    both = Both(tmp_path, 24)
    monkeypatch.setattr(testing, "_armed", full)
    both.path.write_text('{"n": 0}')
    assert "No space left" in both.look()
    both.path.write_text('{"n": 3}')
    assert "No space left" in both.look()
    monkeypatch.undo()
    both.answer_well()


# -- generated schemas and answers -----------------------------------------------------------

SIMPLE = st.sampled_from(
    [
        {"type": "integer", "minimum": -5, "maximum": 7},
        {"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5},
        {"type": "string", "minLength": 1, "maxLength": 4},
        {"enum": ["a", 1, None]},
        {"type": "boolean"},
        {"type": ["null", "integer"]},
    ]
)
SCHEMAS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items, "maxItems": 3}, inner),
        st.builds(
            lambda properties: {
                "type": "object",
                "properties": properties,
                "required": sorted(properties)[:1],
                "additionalProperties": False,
            },
            st.dictionaries(st.sampled_from(["x", "y_eV", "z"]), inner, max_size=3),
        ),
        st.builds(lambda ways: {"anyOf": ways}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=5,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), schema=SCHEMAS)
def test_valid_answers_pass_and_what_passes_is_valid(data: Any, schema: Any) -> None:
    import jsonschema

    check_schema(schema, "the schema")
    good = data.draw(from_schema(schema))
    assert violations(schema, good) == []
    other = data.draw(JSON)
    found = violations(schema, other)
    assert (found == []) is jsonschema.Draft202012Validator(schema).is_valid(other)
    assert all(line.startswith("$") and "\n" not in line for line in found)
    json.dumps(template(schema))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_bytes_are_parsed_or_refused_and_nothing_else(raw: bytes) -> None:
    try:
        value = parse_json(raw)
    except InvalidJsonError:
        return
    assert json.loads(raw.decode("utf-8-sig")) == value


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["type", "properties", "items", "$ref", "enum", "minimum", "$defs"]), JSON))
def test_a_schema_is_obeyed_or_refused_and_nothing_else(schema: Any) -> None:
    try:
        check_schema(schema, "the schema")
    except InvalidTaskError:
        return
    for value in ({}, [], 1, "x", None):
        assert all(isinstance(line, str) for line in violations(schema, value))
    json.dumps(template(schema))
