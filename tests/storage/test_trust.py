"""To step a run is an act of trust, asked for once: of what was made elsewhere, nothing is run before that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from crashes import in_child

import matterstack as ms
from matterstack.errors import RunNotFoundError, RunStatusError, UntrustedRunError
from matterstack.files import birth_ns
from matterstack.storage.trust import is_trusted, record_folder, record_run


def make(base: Path) -> ms.Run:
    """Return a run that leaves a trace wherever it is stepped."""
    flow = ms.Workflow(
        [
            ms.Task("a", f"touch {base}/stepped"),
            ms.Task("ask", operator="human", instructions="?"),
            ms.Task("kit", "true", operator="manual"),
        ]
    )
    notify = ["touch", str(base / "told")]
    operators = {
        "local": ms.LocalOperator(),
        "human": ms.HumanOperator(notify=notify),
        "manual": ms.ManualHPCOperator(preamble="module load vasp"),
    }
    return ms.initialize_run("w", flow, base_path=base, operators=operators, run_id="r")


@pytest.fixture
def received(tmp_path: Path) -> Path:
    """A run as it comes out of a colleague's archive."""
    path = make(tmp_path / "theirs").path
    (tmp_path / "theirs").mkdir(exist_ok=True)
    return Path(shutil.copytree(path, tmp_path / "mine/workspaces/w/runs/r"))


def untouched(received: Path) -> bool:
    theirs = received.parents[4] / "theirs"
    return not (theirs / "stepped").exists() and not (theirs / "told").exists()


ACTS: dict[str, Any] = {
    "step": lambda run: run.step(),
    "step_run": ms.step_run,
    "wait": lambda run: run.wait(timeout_s=5),
    "ticks": lambda run: next(run.ticks()),
    "cancel": lambda run: run.cancel(),
}


@pytest.mark.parametrize("act", ACTS)
def test_a_copy_is_not_stepped_before_one_says_so(received: Path, act: str) -> None:
    run = ms.open_run(received)
    with pytest.raises(UntrustedRunError) as refused:
        ACTS[act](run)
    said = str(refused.value)
    for word in ("2 commands", "notify", "touch", "module load vasp", "matterstack.trust(", str(received)):
        assert word in said
    assert refused.value.path == received
    assert untouched(received)
    assert run.status is ms.RunStatus.PENDING
    ms.trust(received)
    ACTS[act](run)
    assert run.status is not ms.RunStatus.PENDING


def test_looking_and_what_runs_nothing_needs_no_trust(received: Path) -> None:
    run = ms.open_run(received)
    assert "not trusted here: a step would run 2 commands" in repr(run)
    assert "not trusted here" in run._repr_html_()
    (first, *_) = run.explain()
    assert "neither made it here nor trusted it" in first.why
    assert "matterstack.trust" in first.remedy
    assert len(run.tasks) == 3
    assert repr(run.dag())
    assert not run.inbox()
    with pytest.raises(RunStatusError, match="PENDING"):
        run.pause()
    assert untouched(received)


def test_a_request_of_a_run_that_is_not_trusted_can_be_answered(tmp_path: Path) -> None:
    path = make(tmp_path / "theirs").path
    ms.open_run(path).step()
    received = Path(shutil.copytree(path, tmp_path / "mine/workspaces/w/runs/r"))
    run = ms.open_run(received)
    assert run.respond("ask", {"n": 1}) is run
    assert run.pause().status is ms.RunStatus.PAUSED
    assert run.export_kits(tmp_path / "kits.zip") == ["0.kit.1"]
    assert run.import_kits(tmp_path / "kits.zip").without_results == ["0.kit.1"]
    with pytest.raises(UntrustedRunError):
        run.resume().step()


def test_ones_own_run_is_stepped_also_after_a_rename_and_in_another_process(tmp_path: Path) -> None:
    run = make(tmp_path)
    moved = run.path.rename(tmp_path / "elsewhere")
    assert ms.open_run(moved).step().submitted == 3
    program = f"import matterstack as ms; ms.open_run({str(moved)!r}).step()"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_an_unzipped_run_is_asked_about_once(tmp_path: Path) -> None:
    path = make(tmp_path / "theirs").path
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as archive:
        for file in path.rglob("*"):
            archive.write(file, file.relative_to(path))
    received = tmp_path / "received"
    zipfile.ZipFile(tmp_path / "run.zip").extractall(received)
    with pytest.raises(UntrustedRunError):
        ms.open_run(received).step()
    done = subprocess.run([sys.executable, "-m", "matterstack", "trust", str(received)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "Trusted: you may step it.\n")
    for _ in range(2):
        ms.open_run(received).step()
    again = Path(shutil.copytree(received, tmp_path / "again"))
    with pytest.raises(UntrustedRunError):
        ms.open_run(again).step()


def test_a_folder_of_a_group_is_trusted_with_all_that_is_put_there(tmp_path: Path, received: Path) -> None:
    ms.trust(received.parents[3])
    assert ms.open_run(received).step().submitted == 3
    with pytest.raises(RunNotFoundError):
        ms.trust(tmp_path / "nowhere")


def test_the_environment_names_folders_where_homes_do_not_last(
    received: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MATTERSTACK_TRUST", f"{tmp_path}/other:{tmp_path}/min")  # a name's beginning is no folder
    with pytest.raises(UntrustedRunError):
        ms.open_run(received).step()
    monkeypatch.setenv("MATTERSTACK_TRUST", f"{tmp_path}/other:{tmp_path}/mine")
    assert ms.open_run(received).step().submitted == 3


def test_a_link_into_a_trusted_folder_is_not_in_it(received: Path, tmp_path: Path) -> None:
    trusted = tmp_path / "group"
    trusted.mkdir()
    ms.trust(trusted)
    (trusted / "r").symlink_to(received)
    with pytest.raises(UntrustedRunError):
        ms.open_run(trusted / "r").step()


def test_a_run_made_where_no_home_can_be_written_is_stepped_by_who_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    run = make(tmp_path)
    assert run.step().submitted == 3
    with pytest.raises(UntrustedRunError):
        ms.open_run(run.path).step()


def test_a_directory_that_is_put_in_the_place_of_ones_own_run_is_another(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.step()
    run.path.rename(tmp_path / "kept")
    shutil.copytree(tmp_path / "kept", run.path)
    with pytest.raises(RunNotFoundError, match="kept"):
        run.step()
    with pytest.raises(UntrustedRunError):
        ms.open_run(run.path).step()


def test_a_config_that_lies_about_its_key_is_no_key_to_anything(received: Path) -> None:
    (received / "config.json").write_text((received / "config.json").read_text().replace('"key": "', '"key": "../'))
    with pytest.raises(UntrustedRunError):
        ms.open_run(received).step()


def test_killed_while_it_is_made_the_run_is_there_or_not_and_if_it_is_it_can_be_stepped(tmp_path: Path) -> None:
    from matterstack import crash_points

    for point in ("initialize.filled", "initialize.renamed"):
        base = tmp_path / point
        in_child(lambda base=base: make(base), lambda point=point: crash_points.arm("kill", point))  # type: ignore[misc]
        runs = list((base / "workspaces/w/runs").glob("r"))
        assert [ms.open_run(path).step().submitted for path in runs] == [3] * len(runs)
        assert os.path.exists(base)


def test_what_comes_back_into_the_place_of_what_was_removed_is_asked_about(tmp_path: Path) -> None:
    """A file system gives the inode of a directory that was removed to the next one that is made."""
    for number in range(30):
        folder, kept = tmp_path / f"{number}" / "folder", tmp_path / f"{number}" / "kept"
        folder.mkdir(parents=True)
        born, clock = birth_ns(folder), tmp_path / f"{number}" / "clock"
        clock.touch()
        record_run(folder, "key")
        record_folder(folder)
        assert is_trusted(folder, "key")
        folder.rename(kept)
        assert is_trusted(kept, "key")
        kept.rmdir()
        while clock.stat().st_mtime_ns <= born:  # older kernels date what is made within some milliseconds alike
            clock.touch()
        folder.mkdir()
        assert not is_trusted(folder, "key")
