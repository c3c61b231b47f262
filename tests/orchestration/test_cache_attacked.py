"""A cache that is killed, shared, damaged, full, somebody else's: an entry may be lost, and never is wrong."""

from __future__ import annotations

import errno
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crashes import in_child, points_of, sampled
from users import as_user, root

import matterstack as ms
from matterstack import crash_points as testing
from matterstack.core.cache_keys import Key
from matterstack.orchestration import caching

ODD = "deep er/o'dd $(x) ü.txt"


def größe(x: float, ledger: str) -> dict[str, Any]:
    with open(ledger, "a") as file:
        file.write("run\n")
    return {"x": x, "grid": np.full(20_000, x)}


def after(said: dict[str, Any]) -> float:
    return float(said["grid"].sum())


def planned(base: Path, run_id: str, x: float = 1.0) -> ms.Run:
    flow = ms.Workflow()
    flow.add("after", after, flow.add("value", größe, x, str(base / "ledger")))
    script = f"echo run >>'{base}/ledger'; mkdir 'deep er'; printf %s {x} >{shlex.quote(ODD)}"
    flow.add_task(ms.Task("command", script, outputs=[ODD], cache=True))
    return ms.initialize_run("w", flow, base_path=base, run_id=run_id, cache=base / "cache")


def finish(run: ms.Run) -> ms.Run:
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.value("after") == 20_000 * run.value("value")["x"]
    assert run.file("command", ODD).read_text() == str(run.value("value")["x"])
    assert run.store.check() == []
    return run


def ran(base: Path) -> int:
    return len((base / "ledger").read_text().splitlines())


def cached(run: ms.Run) -> int:
    return int(run.tasks["cached"].notna().sum())


def test_odd_names_and_large_arrays_are_kept(tmp_path: Path) -> None:
    finish(planned(tmp_path, "one"))
    assert cached(finish(planned(tmp_path, "two"))) == 3
    assert ran(tmp_path) == 2


def test_killed_at_every_point_on_the_way_in_and_on_the_way_out(tmp_path: Path) -> None:
    """Between the commit and the entry, and between a hit and its commit: nothing is doubled, lost or wrong.

    Of the arrivals at a point a sample is taken.
    """

    def undisturbed(base: Path, run_id: str) -> Callable[[], object]:
        base.mkdir(exist_ok=True)
        path = planned(base, run_id).path
        return lambda: ms.open_run(path).wait(timeout_s=60)

    first = tmp_path / "first"
    keeping = points_of(undisturbed(first, "one"), tmp_path / "keeping")
    taking = points_of(undisturbed(first, "two"), tmp_path / "taking")
    assert ("cache.committed", 3) in keeping
    assert ("cache.recalled", 3) in taking
    wanted = ("cache.committed", "cache.write", "cache.kept", "cache.recalled")
    on_the_way_in = sampled((point, hit) for point, hit in keeping if point in wanted)
    on_the_way_out = sampled(
        (point, hit) for point, hit in taking if point in (*wanted, "store.commit", "attempt.renamed")
    )
    for number, (point, hit) in enumerate((*on_the_way_in, *on_the_way_out)):
        base = tmp_path / f"{number}"
        base.mkdir()
        if number >= len(on_the_way_in):
            finish(planned(base, "before"))
        run = planned(base, "killed")
        code = in_child(
            lambda run=run: ms.open_run(run.path).wait(60), lambda p=point, h=hit: testing.arm("kill", p, h)
        )
        assert code in (0, -signal.SIGKILL)
        finish(run)
        assert len(run.attempts) == 3, (point, hit)
        assert ran(base) == 2, (point, hit)
        finish(planned(base, "next"))
        assert cached(finish(planned(base, "last"))) == 3, (point, hit)
        assert not [path for path in (base / "cache").rglob("*.json") if not path.read_bytes()]
        shutil.rmtree(base)


def test_two_processes_and_many_runs_at_one_cache(tmp_path: Path) -> None:
    program = "import sys, matterstack as ms; print(ms.open_run(sys.argv[1]).wait(timeout_s=100))"
    for wave in range(2):
        runs = [planned(tmp_path, f"{wave}-{number}") for number in range(4)]
        started = [subprocess.Popen([sys.executable, "-c", program, str(run.path)]) for run in runs]
        cache = ms.Cache(tmp_path / "cache")
        while any(process.poll() is None for process in started):
            cache.prune(older_than_days=1)
            assert len(cache.entries) <= 3
        for run in runs:
            finish(run)
    assert len(cache.entries) == 3
    assert all(cached(run) == 3 for run in runs)
    assert not list((tmp_path / "cache").rglob("*.partial"))


def blobs(base: Path) -> list[Path]:
    return sorted(path for path in base.glob("cache/files/*/*"))


def entries(base: Path) -> list[Path]:
    return sorted(base.glob("cache/entries/*/*.json"))


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        path.unlink()
        make(path)

    return act


DAMAGE: dict[str, Callable[[Path], None]] = {
    "flipped": flipped,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:2]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "a link": replaced(lambda path: path.symlink_to("/etc/passwd")),
    "a FIFO": replaced(lambda path: os.mkfifo(path)),
    "a folder": replaced(lambda path: path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("of", [blobs, entries], ids=["files", "entries"])
def test_what_is_damaged_is_computed_anew_and_kept_again(
    tmp_path: Path, damage: str, of: Callable[[Path], list[Path]], caplog: pytest.LogCaptureFixture
) -> None:
    finish(planned(tmp_path, "one"))
    for path in of(tmp_path):
        DAMAGE[damage](path)
    assert cached(finish(planned(tmp_path, "two"))) == 0
    assert ran(tmp_path) == 4
    if of is blobs:
        assert "cannot be used, and is made anew" in caplog.text
    if damage != "a folder":
        assert cached(finish(planned(tmp_path, "three"))) == 3
    else:
        assert cached(finish(planned(tmp_path, "three"))) == 0, "what is no file of ours is left alone"


def test_an_entry_of_any_content_does_no_harm(tmp_path: Path) -> None:
    finish(planned(tmp_path, "one"))
    (path, *_) = entries(tmp_path)
    whole = json.loads(path.read_text())
    name, pair = next(iter(whole["files"].items()))
    for said in (
        [], {}, "x", {**whole, "files": {"../../../../task.py": pair}}, {**whole, "files": {"/etc/x": pair}},
        {**whole, "files": {name: ["../" * 8 + "etc/passwd", 3]}}, {**whole, "files": {name: [pair[0], -1]}},
        {**whole, "parts": {}}, {**whole, "parts": 3}, {**whole, "key": "0" * 64}, {**whole, "files": {}},
        {**whole, "files": {**whole["files"], "task.py": pair}},
        {**whole, "files": {**whole["files"], "stdout.txt": pair}},
    ):  # fmt: skip
        path.write_text(json.dumps(said))
        run = finish(planned(tmp_path, f"r{abs(hash(str(said)))}"))
        assert cached(run) == 2
        assert not (tmp_path / "task.py").exists()
        assert cached(finish(planned(tmp_path, f"s{abs(hash(str(said)))}"))) == 3, "it was made anew"


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_a_full_disk_in_the_caches_folder_loses_entries_and_nothing_else(
    tmp_path: Path, error: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "matterstack")

    def full(point: str) -> None:
        if point == "cache.write":
            number = getattr(errno, error)
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(testing, "_armed", full)
    finish(planned(tmp_path, "one"))
    assert caplog.text.count("nothing can be kept in") >= 1
    monkeypatch.setattr(testing, "_armed", None)
    assert entries(tmp_path) == []
    finish(planned(tmp_path, "two"))
    assert cached(finish(planned(tmp_path, "three"))) == 3


@root
def test_a_real_disk_that_fills_up(tmp_path: Path) -> None:
    disk = tmp_path / "cache"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        assert cached(finish(planned(tmp_path, "one"))) == 0
        run = finish(planned(tmp_path, "two"))  # an array of 160 kB has no room, and the rest has
        assert list(run.tasks["task_id"][run.tasks["cached"].notna()]) == ["after", "command"]
        assert not list(disk.rglob("*.partial"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("stands", ["a file", "a file below", "a link to nowhere"])
def test_what_is_no_folder_is_no_cache_and_no_trouble(tmp_path: Path, stands: str) -> None:
    if stands == "a file":
        (tmp_path / "cache").write_text("mine")
    elif stands == "a file below":
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache/entries").write_text("mine")
        (tmp_path / "cache/files").write_text("mine")
    else:
        (tmp_path / "cache").symlink_to(tmp_path / "nowhere/at/all")
    for run_id in ("one", "two"):
        assert cached(finish(planned(tmp_path, run_id))) == 0
    assert ran(tmp_path) == 4
    assert ms.Cache(tmp_path / "cache").entries.empty
    assert ms.Cache(tmp_path / "cache").prune(max_gib=0) == 0


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that others may enter; pytest's own lies below one of root's."""
    path = Path(tempfile.mkdtemp(prefix="matterstack-cache-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@root
def test_a_cache_of_somebody_else_gives_and_takes_nothing_where_it_may_not(public: Path) -> None:
    finish(planned(public, "one"))
    theirs = public / "theirs"
    theirs.mkdir()
    os.chmod(theirs, 0o777)
    os.chmod(public / "ledger", 0o666)
    before = sorted((public / "cache").rglob("*"))

    def act() -> str:
        cache = ms.Cache(public / "cache")
        (entry, *_) = [entry for _, entry in cache._all() if entry.name == "größe"]
        (theirs / "out").mkdir()
        cache.take(entry, str(theirs / "out"))
        cache.keep(entry, str(theirs / "out"))
        return f"{len(cache.entries)} {cache.prune(max_gib=0)} {sorted(os.listdir(theirs / 'out'))}"

    assert as_user(65534, act) == "3 0 ['result.json', 'value', 'value.json']"
    assert sorted((public / "cache").rglob("*")) == before


def test_a_value_that_was_changed_after_it_was_made_is_not_kept(tmp_path: Path) -> None:
    """It may be what came home of a transfer that was cut off, or what somebody edited."""
    run = ms.initialize_run(
        "w",
        ms.Workflow([ms.Task("c", "printf one >out.txt", outputs=["out.txt"], cache=True)]),
        base_path=tmp_path,
        run_id="one",
    )
    kept = caching._keep

    def changed_before(session: Any, attempt: Any, made: Any) -> None:
        (attempt.directory / "out.txt").write_text("two")
        kept(session, attempt, made)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(caching, "_keep", changed_before)
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert ms.Cache(tmp_path / "workspaces/w/cache").entries.empty


def test_names_of_any_kind_have_a_place(tmp_path: Path) -> None:
    cache = ms.Cache(tmp_path / "cache")
    from matterstack.cache import Entry

    for name in ("größe", "a/../b", "x" * 5000, "..", "-", "'; rm -rf /"):
        key = Key(name, {"command": {"command": name}})
        cache.keep(Entry(key.digest, name, key.parts, {"run": "r", "attempt": "a", "at": 0.0}, {}), str(tmp_path))
        found = cache.find(key)
        assert found is not None
        assert found.name == name
        assert cache.forget(name) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]
