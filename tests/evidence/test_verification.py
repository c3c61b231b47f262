"""Every file that a run's record names is looked for and hashed; what is not as recorded is told apart."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from evidence_lab import copied

import matterstack as ms

BANDS, KIT, PICK = "operators/local/0.bands.1", "operators/cluster/1.refine.1", "operators/people/0.pick.1/.matterstack"


def everything(directory: Path) -> dict[str, tuple[int, int, int]]:
    """Return what is in a directory, and when each was written."""
    found = [directory, *directory.rglob("*")]
    return {str(path): ((one := path.lstat()).st_ino, one.st_size, one.st_mtime_ns) for path in found}


def test_a_run_that_nobody_touched_is_as_recorded_and_nothing_is_written(ended: ms.Run) -> None:
    before = everything(ended.path)
    found = ended.verify()
    assert everything(ended.path) == before
    assert found
    assert found.counts == {"as recorded": 19}
    assert found.frame.empty
    assert repr(found) == "Run first: all is as recorded. Of 19 files that the record names: 19 as recorded."


def test_an_export_of_tasks_that_declare_nothing_is_as_recorded(tmp_path: Path) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "echo printed")]), base_path=tmp_path)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    found = ms.open_run(run.export(tmp_path / "exported")).verify()
    assert bool(found)
    assert {status for status in found.counts if status != "as recorded"} == {"left out"}, found
    assert found.counts["left out"] == 1


def test_what_was_packed_is_read_through_its_archive(packed: ms.Run) -> None:
    found = packed.verify()
    assert found
    assert found.counts == {"as recorded": 12, "packed": 8}
    assert "8 as recorded, in archives" in found.headline


def test_what_was_cleaned_is_no_loss(tmp_path: Path) -> None:
    flow = ms.Workflow(
        [
            ms.Task("md", "echo x > wave.tmp; echo y > out.txt", outputs=["out.txt", "wave.tmp"]),
            ms.Task("again", "echo $MATTERSTACK_ATTEMPT > n; [ $MATTERSTACK_ATTEMPT = 2 ]", outputs=["n"], retries=1),
        ]
    )
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    run.wait(timeout_s=180)
    with closing(sqlite3.connect(run.path / "state.sqlite")) as store, store:
        store.execute("INSERT INTO outputs SELECT attempt - 1, name, sha256, size FROM outputs WHERE name = 'n'")
    assert run.clean(do=True).files
    found = run.verify()
    assert found
    assert [(one.status, one.path) for one in found.differ] == [("cleaned", "operators/local/0.again.1/n")]
    assert "all of that attempt was removed on" in repr(found)


def edit(path: Path, text: str = "other") -> None:
    os.chmod(path, 0o644)
    path.write_text(text)


def edit_new(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("evil")


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def another_answer(run: Path) -> None:
    """Replace an answer and its verdict by others that agree with each other."""
    home = run / PICK
    (old,) = (home / "accepted").iterdir()
    content = json.dumps({"metal": "Al", "why": "because"}).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    (home / "accepted" / f"{sha256}.json").write_bytes(content)
    old.unlink()
    verdict = json.loads((home / "verdict.json").read_text())
    (home / "verdict.json").write_text(json.dumps({**verdict, "sha256": sha256}))


def another_kit(manifest: Path) -> None:
    """Have a kit say that it is of another attempt."""
    edit(manifest, json.dumps({**json.loads(manifest.read_text()), "token": "ms-0"}))


def another_result(run: Path, task_id: str) -> None:
    """Have the database say of a task that it gave something else."""
    with closing(sqlite3.connect(run / "state.sqlite")) as store, store:
        data = "UPDATE attempts SET data = json_set(data, '$.gap_eV', 9.0) WHERE task = "
        store.execute(f"{data}(SELECT id FROM tasks WHERE task_id = ?)", (task_id,))


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


#: What is done to a run, and the end of the path, and the status, that tell of it.
HARM: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "output changed": (lambda run: edit(run / BANDS / "bands.txt"), "0.bands.1/bands.txt", "changed"),
    "output gone": (lambda run: (run / BANDS / "bands.txt").unlink(), "/bands.txt", "missing"),
    "value changed": (lambda run: edit(run / "operators/local/0.relax-Al.1/value.json"), "value.json", "changed"),
    "data of a command": (lambda run: another_result(run, "bands"), "0.bands.1/result.json", "changed"),
    "data of a call": (lambda run: another_result(run, "relax-Cu"), "0.relax-Cu.1/result.json", "changed"),
    "data of a kit": (lambda run: another_result(run, "refine"), "1.refine.1/output/result.json", "changed"),
    "directory gone": (lambda run: (run / BANDS).rename(run / "x"), "0.bands.1/", "missing"),
    "a link in place of a file": (lambda run: link(run / BANDS / "bands.txt"), "bands.txt", "unreadable"),
    "source changed": (lambda run: edit(source(run)), "files/", "changed"),
    "source gone": (lambda run: source(run).unlink(), "files/", "missing"),
    "campaign gone": (lambda run: (run / "campaign/campaign.py").unlink(), "campaign/campaign.py", "missing"),
    "campaign changed": (lambda run: edit(run / "campaign/campaign.py"), "campaign/campaign.py", "changed"),
    "what it holds changed": (lambda run: edit(run / "campaign/campaign.json", "{}"), "campaign.json", "changed"),
    "a module put beside it": (lambda run: edit_new(run / "campaign/modules/os.py"), "modules/os.py", "changed"),
    "answer changed": (lambda run: edit(only(run / PICK / "accepted", "*")), ".json", "changed"),
    "answer and verdict changed": (another_answer, ".json", "changed"),
    "verdict of another": (
        lambda run: edit(run / PICK / "verdict.json", '{"token": "ms-0", "at": 1}'),
        "verdict.json",
        "changed",
    ),
    "kit of another": (lambda run: another_kit(run / KIT / "MANIFEST.json"), "MANIFEST.json", "changed"),
    "kit changed": (lambda run: edit(run / KIT / "inputs/start.xyz"), "inputs/start.xyz", "changed"),
    "its result changed": (lambda run: edit(run / KIT / "output/last.xyz"), "output/last.xyz", "changed"),
}


def source(run: Path) -> Path:
    """Return where the run keeps the source of its function."""
    return next(path for path in (run / "files").iterdir() if path.suffix == "" and b"def relax" in path.read_bytes())


@pytest.mark.parametrize("harm", HARM)
def test_what_was_changed_or_is_gone_is_named(harm: str, ended: ms.Run, tmp_path: Path) -> None:
    run = copied(ended, tmp_path)
    act, path, status = HARM[harm]
    act(run.path)
    found = run.verify()
    assert not found
    assert [one.status for one in found.differ if one.path.endswith(path) or one.path.startswith(path)] == [status]
    assert path in repr(found)
    assert path in found._repr_html_()


class Rounds(ms.Campaign):
    """Plan a task a round."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def plan(self, state: dict[str, int]) -> ms.Workflow | None:
        """Return the task of the next round."""
        return None if state.get("over", 0) >= self.rounds else ms.Workflow([ms.Task("a", "true")])

    def analyze(self, state: dict[str, int], results: object) -> dict[str, int]:
        """Count the rounds."""
        return {"over": state.get("over", 0) + 1}


def test_another_campaign_is_kept_with_its_own_sums(tmp_path: Path) -> None:
    run = ms.initialize_run("w", Rounds(1), base_path=tmp_path)
    run.wait(timeout_s=180)
    run.reopen(Rounds(2)).wait(timeout_s=180)
    assert run.verify().counts == {"as recorded": 2}
    edit(run.path / "campaign.2/campaign.json", "{}")
    assert [(one.path, one.status) for one in run.verify().differ] == [("campaign.2/campaign.json", "changed")]


def test_of_a_campaign_that_an_earlier_version_kept_it_is_said_that_nobody_hashed_it(
    ended: ms.Run, tmp_path: Path
) -> None:
    run = copied(ended, tmp_path)
    config = json.loads((run.path / "config.json").read_text())
    assert set(config.pop("campaign_sha256")) == {"campaign.json", "campaign.py"}
    (run.path / "config.json").write_text(json.dumps(config))
    found = run.verify()
    assert found
    assert {one.path: one.status for one in found.differ} == {
        "campaign/campaign.json": "not hashed",
        "campaign/campaign.py": "not hashed",
    }
    (run.path / "config.json").write_text(json.dumps({**config, "campaign_sha256": {"../../secret": 1}}))
    assert not run.verify()


def test_a_damaged_archive_is_told(packed: ms.Run, tmp_path: Path) -> None:
    run = copied(packed, tmp_path)
    archive = run.path / "archives/0.zip"
    content = bytearray(archive.read_bytes())
    at = content.index(b"bands.txt", content.index(b"bands.txt")) + len(b"bands.txt") + 2
    content[at] ^= 0xFF
    archive.write_bytes(content)
    found = run.verify()
    assert not found
    assert {one.path for one in found.differ if one.status == "changed"} == {"archives/0.zip"}
    archive.unlink()
    assert "missing" in run.verify().counts


def test_a_copy_that_a_command_has_changed_is_told_and_is_no_harm(ended: ms.Run, tmp_path: Path) -> None:
    run = copied(ended, tmp_path)
    edit(run.path / BANDS / "INCAR")
    edit(run.path / BANDS / "relax.json")
    found = run.verify()
    assert found
    assert {Path(one.path).name: one.status for one in found.differ} == {
        "INCAR": "copy differs",
        "relax.json": "copy differs",
    }


def test_a_record_of_a_stranger_leads_nowhere(ended: ms.Run, tmp_path: Path) -> None:
    run = copied(ended, tmp_path)
    (tmp_path / "secret").write_text("s")
    with closing(sqlite3.connect(run.path / "state.sqlite")) as store, store:
        store.execute("UPDATE outputs SET name = '../../../../secret' WHERE name = 'bands.txt'")
    (told,) = (one for one in run.verify().differ if "secret" in one.path)
    assert (told.status, told.found) == ("unreadable", "")


def total(energies: object, weights: object, unit: str) -> float:
    """Add up, in a unit that there is."""
    return {"meV": 1.0}[unit]


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> ms.Run:
    """Return a run of a call that was tried again with another argument, and of commands, one of which is untidy."""
    import numpy

    flow = ms.Workflow()
    flow.add("sum", total, numpy.arange(10_001.0), [1, {"a": 2.5}], unit="eV/\xc5")
    flow.add_task(ms.Task("cmd", "true", parameters={"cutoff_eV": 520, "note": "\xfc"}, files={"IN": b"\x00"}))
    flow.add_task(ms.Task("own", "echo mine > parameters.json", parameters={"a": 1}))
    run = ms.initialize_run("w", flow, base_path=tmp_path_factory.mktemp("laid"))
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    run.retry("sum", arguments={"unit": "meV"})
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    return run


@pytest.mark.parametrize(
    "pattern",
    ["sum.1/args.json", "sum.2/args.json", "sum.2/task.py", "sum.2/matterstack_main.py", "sum.2/args/*.npy",
     "cmd.1/parameters.json", "cmd.1/IN"],
)  # fmt: skip
def test_what_a_run_has_laid_out_is_compared_with_the_record(pattern: str, laid: ms.Run, tmp_path: Path) -> None:
    """It is told and is no harm: what ran may have changed it, as one command did."""
    run = copied(laid, tmp_path)
    path = only(run.path / "operators/local", f"0.{pattern}")
    content = path.read_bytes()
    path.unlink()  # the run may have it elsewhere, too
    path.write_bytes(content[:-1] + b"!")
    found = run.verify()
    assert found
    untidy = "operators/local/0.own.1/parameters.json"
    told = {one.path: (one.status, one.why) for one in found.differ}
    assert told == dict.fromkeys(
        [untidy, path.relative_to(run.path).as_posix()], ("copy differs", "changed since, by a handler, or by what ran")
    )


def test_a_plan_of_a_stranger_that_makes_no_sense_is_looked_over(laid: ms.Run, tmp_path: Path) -> None:
    run = copied(laid, tmp_path)
    odd = [{"files": {"IN": "\ud800"}, "call": {"program": 1}}, {"call": [], "parameters": "\ud800"}, [], {"call": 1}]
    with closing(sqlite3.connect(run.path / "state.sqlite")) as store, store:
        for row, spec in enumerate(odd, 1):
            store.execute("UPDATE tasks SET spec = ? WHERE id = ?", (json.dumps(spec), row))
    assert run.verify()
