"""What a page is told of an attempt: pages of logs, what files hold, and what it was made from."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import matterstack as ms
from matterstack.errors import MatterstackError, UnknownTaskError, UnsafeFileError, UnsafePathError
from matterstack.notebook import contents, pages
from matterstack.notebook.board import News
from matterstack.notebook.browsing import Browsing, Growing
from matterstack.notebook.desk import Desk
from matterstack.notebook.file_keys import key_of, path_of

EVIL = "</script><img src=x onerror=alert(1)>"
SMALL = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pages and chunks so small that a short text has borders of all kinds."""
    monkeypatch.setattr(pages, "PAGE_BYTES", 16)
    monkeypatch.setattr(pages, "_BEFORE_BYTES", 8)
    monkeypatch.setattr(pages, "_CHUNK_BYTES", 7)


def forward(root: Path) -> Iterator[pages.Page]:
    at = 0
    while True:
        yield (page := pages.page_from(root, "log", at))
        if page.is_last:
            return
        assert page.end > at
        at = page.end


# -- pages of a text ---------------------------------------------------------------------------

TEXTS = st.text(st.sampled_from("ab\nµ€𝄞\t"), max_size=120).map(str.encode)


@SMALL
@given(content=st.one_of(TEXTS, st.binary(max_size=120)))
def test_pages_are_all_of_a_file_whatever_is_in_it(tmp_path: Path, small: None, content: bytes) -> None:
    (tmp_path / "log").write_bytes(content)
    there = list(forward(tmp_path))
    assert [page.start for page in there[1:]] == [page.end for page in there[:-1]]
    missing = len(content) - there[-1].end
    assert 0 <= missing <= 3
    assert not missing or content[there[-1].end] >= 0xC0, "a character that is not whole yet comes with the next page"
    back, at = [], len(content)
    while at > 0:
        page = pages.page_before(tmp_path, "log", at)
        assert page.start < at
        back.append(page)
        at = page.start
    assert sum(page.end - page.start for page in back) in range(len(content) - 3, len(content) + 1)
    if b"\r" not in content and not missing:
        assert "".join(page.text for page in reversed(back)) == pages.shown(content)
        assert "".join(page.text for page in there) == pages.shown(content)


@SMALL
@given(content=TEXTS, at=st.integers(0, 400))
def test_a_page_around_a_byte_has_it_and_begins_with_its_line(
    tmp_path: Path, small: None, content: bytes, at: int
) -> None:
    (tmp_path / "log").write_bytes(content)
    page = pages.page_around(tmp_path, "log", at)
    at = min(at, max(0, len(content) - 1))
    assert page.place is not None
    assert page.start <= at <= page.end
    if content[at : at + 1].isascii() and page.end > at:
        assert page.text[page.place :].startswith(content[at : at + 1].decode())


def test_what_a_terminal_would_do_is_told_and_not_done() -> None:
    assert (
        pages.shown(b"\x1b[31mred\x07\x00\xff\r\nnext\rover\xe2\x80\xae")
        == "\\x1b[31mred\\x07\\x00\\xff\nnext\nover\\u202e"
    )


def test_of_a_gigabyte_a_page_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one line without an end, which is the worst there is."""
    with open(tmp_path / "log", "wb") as file:
        file.truncate(1 << 30)
    read: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *given: (read.append(len(found := pread(*given))), found)[1])
    for look in (pages.page_from, pages.page_before, pages.page_around):
        page = look(tmp_path, "log", 1 << 29)
        assert len(page.text) <= 4 * pages.PAGE_BYTES
    assert sum(read) <= 3 * (pages.PAGE_BYTES + (1 << 14))


@SMALL
@given(text=st.text(st.sampled_from("aAbB\nµ€İß"), max_size=60), word=st.text(st.sampled_from("aAbBµ€ß"), min_size=1))
def test_a_search_finds_what_there_is_also_across_borders(tmp_path: Path, small: None, text: str, word: str) -> None:
    (tmp_path / "log").write_bytes(content := text.encode())
    found = [place for part in pages.search(tmp_path, "log", word) for place in part.places]
    forms = {form.encode().lower() for form in (word, word.lower(), word.upper(), word.title())}
    any_of_them = b"|".join(map(re.escape, sorted(forms, key=len)))
    assert found == [hit.start() for hit in re.finditer(any_of_them, content.lower())]


def test_a_search_tells_how_far_it_is_and_ends_at_ten_thousand(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * 30_000)
    parts = list(pages.search(tmp_path, "log", "X"))
    assert sum(len(part.places) for part in parts) == pages.MOST_FOUND
    assert [part.is_over for part in parts] == [False, True]
    (tmp_path / "log").write_bytes(b"\n" * (9 << 20) + b"Here")
    parts = list(pages.search(tmp_path, "log", "here"))
    assert [part.at >> 20 for part in parts] == [4, 8, 9, 9]
    assert [place for part in parts for place in part.places] == [9 << 20]
    assert list(pages.search(tmp_path, "log", "here", 10 << 20))[-1].is_over


def test_a_log_that_grows_is_cut_short_or_replaced_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\n")
    growing = Growing(tmp_path, "log", 4)
    assert growing.look() is None
    with open(log, "a") as file:
        file.write("two\n")
    page = growing.look()
    assert page is not None
    assert (page.start, page.text) == (4, "two\n")
    assert growing.look() is None
    log.write_text("again\n")  # the same file, cut short
    assert (page := growing.look()) is not None
    assert (page.start, page.text, page.file) == (0, "again\n", page.file)
    log.rename(tmp_path / "old")
    log.write_text("another file, and longer\n")
    assert (other := growing.look()) is not None
    assert other.file != page.file
    assert other.text == "another file, and longer\n"
    log.unlink()
    assert growing.look() is None
    os.mkfifo(log)
    assert growing.look() is None, "and it waits for nobody"


# -- an attempt ------------------------------------------------------------------------------------


def make(base: Path, *tasks: ms.Task, run_id: str | None = None) -> ms.Run:
    run = ms.initialize_run("w", ms.Workflow(tasks), base_path=base, run_id=run_id)
    run.wait(timeout_s=180)
    return run


def ask(run: ms.Run, what: str, /, **asked: Any) -> dict[str, Any]:
    return Browsing(run).answer({"what": what, **asked}).said


def test_all_attempts_of_a_task_are_told_and_the_last_is_shown(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("relax", "echo $$; exit 1", retries=1))
    about = ask(run, "attempt", task="relax")
    assert [one["status"] for one in about["attempts"]] == ["FAILED", "FAILED"]
    assert (about["name"], about["attempt"], about["look"]) == ("0.relax", 2, "FAILED")
    assert [log["name"] for log in about["logs"]] == ["stdout.txt", "stderr.txt"]
    texts = [ask(run, "page", task="relax", attempt=n, path="stdout.txt")["text"] for n in (1, 2)]
    assert len(set(texts)) == 2, "each has its own"
    with pytest.raises(UnknownTaskError, match="has no attempt 3"):
        ask(run, "attempt", task="relax", attempt=3)
    with pytest.raises(UnknownTaskError, match="did you mean 'relax'"):
        run.browse("relx")


def test_the_cell_that_is_told_gets_the_file(tmp_path: Path) -> None:
    run = make(
        tmp_path,
        ms.Task("relax", "mkdir out; echo 1 > out/e.csv; echo 2 > \"it's\"; printf x > $(printf 'M\\374.dat')"),
    )
    names = [entry["key"] for entry in ask(run, "folder", task="relax", path="")["entries"]]
    for key in ["out/e.csv", *(key for key in names if key != "out")]:
        cell = ask(run, "file", task="relax", path=key)["cell"]
        assert eval(cell, {"run": run}) == run.task_directory("relax") / path_of(key), cell
    assert (
        ask(run, "file", task="relax", path="out/e.csv")["cell"]
        == "run.file('relax', 'out/e.csv', iteration=0, attempt=1)"
    )


def test_in_a_kit_logs_and_cells_begin_where_results_are(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("relax", "true", operator="kit")])
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"kit": ms.ManualHPCOperator()})
    run.step()
    run.step()
    folder = run.operators["kit"].traits.results_folder
    results = run.task_directory("relax") / folder
    results.mkdir(exist_ok=True)
    (results / "stdout.txt").write_text("out there\n")
    (log,) = [log for log in ask(run, "attempt", task="relax")["logs"] if log["name"] == "stdout.txt"]
    assert log["key"] == f"{folder}/stdout.txt"
    for key in (log["key"], "HOWTO.txt"):
        cell = ask(run, "file", task="relax", path=key)["cell"]
        assert eval(cell, {"run": run}).is_file(), cell


def test_names_of_any_kind_are_listed_and_only_plain_files_are_read(tmp_path: Path) -> None:
    hostile = f"mkdir -p 'a/{EVIL.replace('/', '_')}'; mkfifo pipe; ln -s /etc/passwd link; ln -s / root"
    hostile += "; printf x > $(printf 'M\\374.dat')"
    run = make(tmp_path, ms.Task("relax", hostile))
    kinds = {entry["name"]: entry["kind"] for entry in ask(run, "folder", task="relax", path="")["entries"]}
    assert (kinds["a"], kinds["pipe"], kinds["link"], kinds["root"]) == ("folder", "other", "link", "link")
    assert kinds["M\\udcfc.dat"] == "text", "and a page can say its name"
    assert ask(run, "page", task="relax", path="M%FC.dat")["text"] == "x"
    for path in ("pipe", "link", "root/etc/passwd", "a"):
        for what in ("file", "page", "bytes", "table", "tree", "array", "hex"):
            with pytest.raises((UnsafeFileError, IsADirectoryError)):
                ask(run, what, task="relax", path=path)
    for path in ("../0.relax.1/stdout.txt", "/etc/passwd", "a//b", "%00", "..", 7, None):
        with pytest.raises((UnsafePathError, UnsafeFileError)):
            ask(run, "page", task="relax", path=path)
    with pytest.raises(UnsafeFileError):
        ask(run, "folder", task="relax", path="root/etc")
    home = run.task_directory("relax")
    (home / "a").rename(home / "b")
    (home / "a").symlink_to("/etc")
    with pytest.raises(UnsafeFileError):
        ask(run, "folder", task="relax", path="a")
    with pytest.raises(MatterstackError):
        ask(run, "attempt", task="relax", run="../../w/runs/x")
    for what in ("nothing", None, ["page"]):
        with pytest.raises(UnsafeFileError, match="nothing answers"):
            ask(run, what, task="relax")  # type: ignore[arg-type]


@given(st.text(st.characters(codec="utf-8")) | st.binary().map(os.fsdecode))
def test_a_key_is_a_path_again(path: str) -> None:
    assert path_of(key_of(path)) == path
    assert key_of(path).isascii()


def test_a_folder_of_many_names_is_told_in_part(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("relax", "mkdir many; cd many; touch $(seq 1200)"))
    said = ask(run, "folder", task="relax", path="many")
    assert (len(said["entries"]), said["more"]) == (1000, 200)


# -- what files hold -------------------------------------------------------------------------------


def put(tmp_path: Path, name: str, content: bytes | str) -> Path:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


def test_kinds_are_those_of_names_but_bytes_are_bytes(tmp_path: Path) -> None:
    for name, content, kind in [("a.PNG", b"\0", "picture"), ("b.csv", "a,b", "table"), ("c.json", "{}", "tree"),
                                ("d.npy", b"\0", "array"), ("e.xyz", "1", "structure"), ("f.csv", b"a\0", "bytes"),
                                ("g", b"\x7fELF\0", "bytes"), ("OUTCAR", "x", "text")]:  # fmt: skip
        assert contents.kind_of(put(tmp_path, name, content), name)[0] == kind
    with open(tmp_path / "big.json", "wb") as file:
        file.write(b"[1]" + b" " * 11_000_000)
    assert contents.kind_of(tmp_path, "big.json")[0] == "text", "so much is not made a tree unasked"


def test_a_table_has_the_first_thousand_rows_and_says_so(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "a,b\n" + f'"{EVIL}\nx",1\n' * 1500)
    said = contents.table_of(tmp_path, "a.csv")
    assert (said["head"], len(said["rows"]), said["is_all"]) == (["a", "b"], 1000, False)
    assert said["rows"][0] == [f"{EVIL}\nx", "1"]
    assert contents.table_of(put(tmp_path, "b.csv", "a;b\n1,5;2\n"), "b.csv")["rows"] == [["1,5", "2"]]
    assert contents.table_of(put(tmp_path, "c.tsv", "a\tb\n1\t2"), "c.tsv")["is_all"]
    assert contents.table_of(put(tmp_path, "d.csv", ""), "d.csv")["rows"] == []
    wide = contents.table_of(put(tmp_path, "e.csv", ",".join("x" * 300)), "e.csv")
    assert (len(wide["head"]), wide["columns"]) == (60, 300)
    with open(tmp_path / "f.csv", "wb") as file:
        file.write(b"x" * (64 << 20))
    with pytest.raises(UnsafeFileError, match="field"):
        contents.table_of(tmp_path, "f.csv")


def test_a_tree_opens_a_hundred_entries_at_a_time(tmp_path: Path) -> None:
    data = {"steps": list(range(250)), EVIL: {"x": None, "big": 12345678901234567890123, "t": "a" * 5000}}
    tree = contents.parse(put(tmp_path, "a.json", json.dumps(data)), "a.json")
    top = contents.entries_of(tree, [], 0)
    assert [(entry["kind"], entry["size"]) for entry in top["entries"]] == [("list", 250), ("object", 3)]
    some = contents.entries_of(tree, [0], 200)
    assert (some["total"], [entry["name"] for entry in some["entries"]]) == (250, [str(n) for n in range(200, 250)])
    inner = contents.entries_of(tree, [1], 0)["entries"]
    assert [entry["said"] for entry in inner[:2]] == ["null", "12345678901234567890123"], "as it stands there"
    assert len(inner[2]["said"]) < 2100
    for bad in ("{", "[" * 100_000, "1" * 5000, ""):
        with pytest.raises(UnsafeFileError, match="no JSON"):
            contents.parse(put(tmp_path, "bad.json", bad), "bad.json")


def test_arrays_are_told_and_objects_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6.0).reshape(2, 3))
    said = contents.array_of(tmp_path, "a.npy")
    assert (said["shape"], said["dtype"]) == ([2, 3], "float64")
    assert said["said"] == "[[0. 1. 2.]\n [3. 4. 5.]]"

    class Bomb:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "went off"),))

    np.save(tmp_path / "b.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    assert "not unpickled" in contents.array_of(tmp_path, "b.npy")["said"]
    assert not (tmp_path / "went off").exists()
    np.save(tmp_path / "c.npy", np.zeros(100_000))
    assert contents.array_of(tmp_path, "c.npy")["said"].endswith("and more")
    for bad in (b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{", b"\x93NUMPY\x09\x00"):
        with pytest.raises(UnsafeFileError, match="no array"):
            contents.array_of(put(tmp_path, "bad.npy", bad), "bad.npy")


@SMALL
@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_a_refusal(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, "a", content)
    for look in (contents.table_of, contents.parse, contents.array_of, contents.hex_of, contents.kind_of):
        try:
            look(tmp_path, "a")  # type: ignore[operator]
        except UnsafeFileError:
            continue
    assert contents.hex_of(tmp_path, "a").count("\n") == max(0, (len(content) + 15) // 16 - 1)


# -- what it was made from ---------------------------------------------------------------------------


def which(link: dict[str, Any]) -> dict[str, Any]:
    return {name: link[name] for name in ("run", "task", "iteration", "attempt")}


def test_links_lead_up_and_down_across_runs(tmp_path: Path) -> None:
    first = make(tmp_path, ms.Task("relax", "echo 1 > e.csv"), run_id="first")
    bands = ms.Task("bands", "cp in.csv b.csv", files={"in.csv": ms.FromTask("relax", "e.csv", run=first)})
    dos = ms.Task("dos", "true", files={"in.csv": ms.FromTask("bands", "b.csv")})
    run = make(tmp_path, bands, dos, run_id="second")
    (link,) = ask(run, "links", task="dos", way="up")["links"]
    assert (link["path"], link["label"], link["is_here"]) == ("b.csv", "0.bands.1", True)
    (link,) = ask(run, "links", **{name: link[name] for name in ("run", "task", "iteration", "attempt")}, way="up")[
        "links"
    ]
    assert (link["run"], link["task"], link["path"], link["is_here"]) == ("first", "relax", "e.csv", False)
    assert len(link["sha256"]) == 64
    # The other run is browsed as this one is, and says what has taken something of it.
    other = which(link)
    assert ask(run, "page", **other, path="e.csv")["text"] == "1\n"
    cell = ask(run, "file", **other, path="e.csv")["cell"]
    assert eval(cell, {"ms": ms}).read_text() == "1\n"
    (down,) = ask(run, "links", **other, way="down")["links"]
    assert (down["run"], down["label"], down["is_here"]) == ("second", "0.bands.1", True)
    shutil.rmtree(first.path)
    with pytest.raises(MatterstackError, match="no run at"):
        ask(run, "attempt", **other)


def test_to_look_at_a_run_of_a_stranger_changes_nothing_in_it(tmp_path: Path) -> None:
    made = make(tmp_path, ms.Task("relax", "echo 1 > e.csv"))
    foreign = tmp_path / "foreign"
    shutil.copytree(made.path, foreign)

    def all_of_it() -> dict[str, tuple[int, bytes]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in sorted(foreign.rglob("*"))
        }

    before = all_of_it()
    run = ms.open_run(foreign)
    for what in ("attempt", "folder", "file", "page", "bytes", "table", "hex", "links"):
        ask(run, what, task="relax", path="" if what == "folder" else "e.csv")
    view = run.browse("relax")
    assert view.twin_html()
    assert all_of_it() == before


def test_packed_attempts_are_browsed_and_a_damaged_archive_is_told(tmp_path: Path) -> None:
    class Two(ms.Campaign):
        def initial_state(self) -> int:
            return 0

        def plan(self, state: int) -> ms.Workflow | None:
            return ms.Workflow([ms.Task("relax", f"echo {state}")]) if state < 2 else None

        def analyze(self, state: int, results: Any) -> int:
            return state + 1

    run = ms.initialize_run("w", Two(), base_path=tmp_path)
    run.wait(timeout_s=180)
    run.pack()
    fresh = Browsing(ms.open_run(run.path))
    asked = {"task": "relax", "iteration": 0}
    assert fresh.answer({"what": "page", "path": "stdout.txt", **asked}).said["text"] == "0\n"
    (archive,) = (run.path / "archives").glob("*.zip")
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(UnsafeFileError, match="damaged"):
        fresh.answer({"what": "attempt", **asked})
    view = run.browse("relax", iteration=1)
    assert "stdout.txt" in view.twin_html()


# -- the desk ------------------------------------------------------------------------------------------


class Page:
    """What a page was sent."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.buffers: list[bytes] = []

    def send(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        json.dumps(message).encode()  # what is no text cannot be sent
        self.heard.append(message)
        self.buffers += buffers


def test_a_question_is_answered_by_its_number_in_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, ms.Task("relax", "printf $(printf '\\377') > odd; echo hello"))
    page = Page()
    desk = Desk(run, page.send)
    threads = []
    answer = Browsing.answer
    monkeypatch.setattr(
        Browsing, "answer", lambda self, asked: (threads.append(threading.current_thread()), answer(self, asked))[1]
    )

    def said(**asked: Any) -> dict[str, Any]:
        done = desk.take({"browse": {"task": "relax", **asked}, "id": "p.1"})
        assert done is not None
        done.result(180)
        return page.heard.pop()

    assert said(what="page", path="stdout.txt")["text"] == "hello\n"
    assert said(what="bytes", path="stdout.txt", at=1, count=3)["answer"] == "p.1"
    assert page.buffers == [b"ell"]
    assert threading.main_thread() not in threads
    assert "not there" in said(what="page", path="gone")["error"]
    assert "no task 'nothing'" in said(what="page", path="x", task="nothing")["error"]
    assert said(what="tree", path="stdout.txt")["error"]
    assert said(what="page", path="stdout.txt", at="x", way={})["text"] == "hello\n"
    for places in ([5], [-1], ["x"], [True, 1]):
        assert "error" in said(what="tree", path="stdout.txt", places=places)
    for message in (
        {},
        {"browse": 1, "id": "1"},
        {"browse": {"what": "page"}},
        {"browse": {"what": "stop", "of": 1}, "id": "1"},
    ):
        assert desk.take(message) is None
    assert page.heard == []


def test_a_search_is_told_in_parts_and_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, ms.Task("relax", "echo aXbxc"))
    monkeypatch.setattr(pages, "_CHUNK_BYTES", 2)
    page = Page()
    desk = Desk(run, page.send)
    asked = {"browse": {"what": "search", "task": "relax", "path": "stdout.txt", "word": "x"}, "id": "p.1"}
    done = desk.take(asked)
    assert done is not None
    done.result(180)
    assert [place for part in page.heard for place in part["places"]] == [1, 3]
    assert [part["goes_on"] for part in page.heard] == [True, True, True, False]
    page.heard.clear()
    send, first = desk._send, threading.Event()

    def stop_at_the_first(message: dict[str, Any], buffers: list[bytes]) -> None:
        send(message, buffers)
        desk.take({"browse": {"what": "stop", "of": "p.2"}, "id": "p.2"})
        first.set()

    desk._send = stop_at_the_first
    done = desk.take({**asked, "id": "p.2"})
    assert done is not None
    done.result(180)
    assert first.is_set()
    assert len(page.heard) == 1


def test_a_page_is_told_when_a_log_has_grown_and_no_more_when_it_looks_away(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("relax", "echo 1"))
    page = Page()
    desk = Desk(run, page.send)
    asked = {"what": "grow", "task": "relax", "path": "stdout.txt", "at": 2}
    for number in range(20):  # no page looks at so many
        done = desk.take({"browse": asked, "id": f"p.{number}"})
        assert done is not None
        done.result(180)
    nothing = News([], False)
    desk.look(nothing)
    assert page.heard == []
    with open(run.file("relax", "stdout.txt"), "a") as file:
        file.write("2\n")
    desk.look(nothing)
    desk.look(nothing)
    assert [(part["answer"], part["text"]) for part in page.heard] == [(f"p.{n}", "2\n") for n in range(12, 20)]
    page.heard.clear()
    for number in range(20):
        desk.take({"browse": {"what": "stop", "of": f"p.{number}"}, "id": "p.0"})
    with open(run.file("relax", "stdout.txt"), "a") as file:
        file.write("3\n")
    desk.look(nothing)
    assert page.heard == []


def test_a_page_is_told_of_changes_of_what_it_looks_at_alone(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("relax", "true"), ms.Task("bands", "true"))
    page = Page()
    desk = Desk(run, page.send)
    cards = (board := run.table().board).cards(range(len(board)))
    desk.look(News(cards, False))
    assert page.heard == [], "nobody looks at any"
    done = desk.take({"browse": {"what": "attempt", "task": "bands"}, "id": "p.1"})
    assert done is not None
    done.result(180)
    page.heard.clear()
    told = threading.Event()
    desk._send = lambda message, buffers: (page.send(message, buffers), told.set())  # type: ignore[assignment]
    desk.look(News(cards, False))
    assert told.wait(90)
    assert [message["about"]["name"] for message in page.heard] == ["0.bands"]


# -- where it shows -----------------------------------------------------------------------------------


def test_a_page_without_a_kernel_has_the_logs_the_files_and_the_origin(tmp_path: Path) -> None:
    run = make(
        tmp_path,
        ms.Task("relax", f"echo '{EVIL}'; echo 1 > e.csv"),
        ms.Task("bands", "echo done", files={"in.csv": ms.FromTask("relax", "e.csv")}),
    )
    html, text = run.browse("relax").twin_html(), run.browse("relax").twin_text()
    assert EVIL not in html
    assert EVIL in unescape(html)
    assert "e.csv" in html
    assert EVIL in text
    assert "in.csv: e.csv of 0.relax.1" in unescape(run.browse("bands").twin_html())


def test_names_in_a_panel_open_the_browser(tmp_path: Path) -> None:
    run = make(tmp_path, ms.Task("relax", 'echo hello; touch "a\'b\\"<.txt" 100%'))
    view = run.dag()
    view._heard(None, {"change": {"selected": "0.relax"}}, None)
    said = [json.loads(unescape(one)) for one in re.findall(r"data-open='([^']*)'", view.panel)]
    assert {one.get("path") for one in said} == {None, "stdout.txt", "stderr.txt", "a%27b%22%3C.txt", "100%25"}
    for one in said:
        assert ask(run, "attempt", **one)["name"] == "0.relax"
        if "path" in one:
            assert ask(run, "file", **one)["kind"] == "text"


def test_a_page_that_is_drawn_late_begins_with_how_the_attempt_stands(tmp_path: Path) -> None:
    os.mkfifo(gate := tmp_path / "gate")
    run = ms.initialize_run("w", ms.Workflow([ms.Task("bands", f"cat {gate}")]), base_path=tmp_path)
    run.step()
    view = run.browse("bands")
    while run.attempts.loc["0.bands.1", "status"] != "RUNNING":
        next(iter(run.ticks(timeout_s=0)))
    view.follower.look()
    assert view.begun["attempt"]["status"] == "RUNNING"
    gate.write_text("")
    run.wait(timeout_s=180)
    view.follower.look()
    assert view.begun["attempt"]["status"] == "COMPLETED"
