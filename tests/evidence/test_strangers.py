"""Runs of strangers: what they say leads nowhere, crashes nothing, and does not become right by being exported."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from evidence_lab import copied, pipe
from users import as_user, root

import matterstack as ms
from matterstack.errors import ExportError, StoreError

BANDS, PICK = "operators/local/0.bands.1", "operators/people/0.pick.1"


def say(run: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(run / "state.sqlite")) as store, store:
        store.execute("PRAGMA ignore_check_constraints = ON")
        store.execute(sql, values)


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def linked_folder(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def test_what_is_wrong_with_a_run_is_wrong_with_its_export(ended: ms.Run, tmp_path: Path) -> None:
    run = copied(ended, tmp_path)
    link(run.path / BANDS / "bands.txt")
    pipe(run.path / "operators/local/0.relax-Cu.1/value.json")
    linked_folder(run.path / "operators/local/0.relax-Al.1")
    link(run.path / PICK / ".matterstack/verdict.json")
    say(run.path, "UPDATE attempts SET archive = '../config.json' WHERE id = (SELECT max(id) FROM attempts)")
    wrong = {one.path for one in run.verify().differ}
    assert len(wrong) > 4
    first = ms.open_run(run.export(tmp_path / "first", files="all"))
    second = ms.open_run(first.export(tmp_path / "second", files="all"))
    for exported in (first, second):
        found = exported.verify()
        assert {one.path for one in found.differ if one.status in ("unreadable", "missing", "changed")} >= wrong
    assert "the export could not take it along: it is a link" in repr(first.verify())


@root
def test_what_its_exporter_may_not_read_is_told_and_the_rest_is_there(ended: ms.Run, tmp_path: Path) -> None:
    run = copied(ended, tmp_path)
    (run.path / BANDS / "bands.txt").chmod(0o600)
    for path in (tmp_path, *list(tmp_path.parents)[:-2]):
        path.chmod(path.stat().st_mode | 0o055)
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    assert "theirs/e" in as_user(65534, lambda: ms.open_run(run.path).export(tmp_path / "theirs/e"))
    (told,) = (one for one in ms.open_run(tmp_path / "theirs/e").verify().differ if one.status != "left out")
    assert (told.path, told.status) == (f"{BANDS}/bands.txt", "unreadable")
    assert told.why == "the export could not take it along: it cannot be copied: Permission denied"


#: What a database says that nobody can show, or that evidence.json has no words for.
SENSELESS = {
    "a sum": "UPDATE outputs SET sha256 = 'javascript:alert(1)'",
    "a status": "UPDATE attempts SET status = '<b>WEIRD</b>' WHERE id = 1",
    "a time": "UPDATE events SET at = 9e999",
    "a size": "UPDATE outputs SET size = 'much'",
    "data": f"UPDATE attempts SET data = '{'[' * 50_000}{']' * 50_000}' WHERE data IS NOT NULL",
    "a plan": "UPDATE tasks SET spec = '{'",
}


@pytest.mark.parametrize("what", SENSELESS)
def test_a_database_without_sense_is_refused_whole_and_verified(what: str, ended: ms.Run, tmp_path: Path) -> None:
    run = copied(ended, tmp_path)
    say(run.path, SENSELESS[what])
    assert repr(run.verify())
    with pytest.raises((ExportError, StoreError)) as caught:
        run.export(tmp_path / "e")
    assert str(run.path / "state.sqlite") in str(caught.value)
    assert ".partial" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_name_that_is_no_text_is_told(ended: ms.Run, tmp_path: Path) -> None:
    run = copied(ended, tmp_path)
    say(run.path, "UPDATE outputs SET name = x'ff00' WHERE name = 'bands.txt'")
    assert [one.status for one in run.verify().differ] == ["unreadable"]
    assert json.loads((run.export(tmp_path / "e") / "evidence.json").read_text())["evidence"] == 1
