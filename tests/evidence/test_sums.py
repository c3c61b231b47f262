"""The sums of an export: sha256sum reads them, and verify sees by them what was changed of its evidence."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from evidence_lab import answer, copied, pipe

import matterstack as ms
from matterstack.evidence.sums import is_evidence, sums_of


@pytest.fixture(scope="module")
def exported(ended: ms.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ended.export(tmp_path_factory.mktemp("sums") / "e")


def stands(home: Path) -> dict[str, str]:
    """Return how the evidence of an export stands that is not as recorded."""
    found = ms.open_run(home).verify()
    differ = {one.path: one.status for one in found.differ if one.kind == "evidence"}
    assert bool(found) is not bool(differ)
    return differ


def test_sha256sum_reads_the_sums_of_all_files(tmp_path: Path) -> None:
    command = "echo 1 > out.txt; mkdir odd; echo 2 > 'odd/a\\b'; echo 3 > 'odd/two\nlines'; echo 4 > 'odd/\xfc *'"
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", command)]), base_path=tmp_path)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    home = run.export(tmp_path / "e", files="all")
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(check, cwd=home, check=True)
    lines = (home / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == sum(path.is_file() for path in home.rglob("*")) - 1
    for one in sorted(path for path in home.rglob("*") if path.is_file() and path.name != "SHA256SUMS"):
        one.chmod(0o644)
        with one.open("ab") as file:
            file.write(b"!")
    done = subprocess.run(check, cwd=home, capture_output=True, text=True)
    assert done.stdout.count("FAILED") == len(lines)


def test_every_file_that_tells_of_the_run_is_looked_at(exported: Path) -> None:
    names = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    plain = {name for name in names if name.startswith("tables/") or "/" not in name}
    assert {name for name in sums_of(exported) if is_evidence(name)} == plain - {
        "SHA256SUMS",
        "state.sqlite",
        "config.json",
    }
    assert stands(exported) == {}


def edit(path: Path) -> None:
    path.write_text(path.read_text().replace("COMPLETED", "cOMPLETED") + " ")


def link(path: Path) -> None:
    """Replace a file by a link to the same."""
    path.rename(path.with_name("x"))
    path.symlink_to("x")


def without_evidence(sums: Path) -> None:
    sums.write_text("".join(line for line in sums.read_text().splitlines(True) if "evidence.json" not in line))


HARM: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "report changed": (edit, "report.html", "changed"),
    "its text changed": (edit, "report.md", "changed"),
    "record changed": (edit, "evidence.json", "changed"),
    "schema changed": (edit, "evidence.schema.json", "changed"),
    "table changed": (edit, "tables/results.csv", "changed"),
    "table gone": (Path.unlink, "tables/events.csv", "missing"),
    "record gone": (Path.unlink, "evidence.json", "missing"),
    "a link in place of the report": (link, "report.html", "unreadable"),
    "a pipe in place of a table": (pipe, "tables/tasks.csv", "unreadable"),
    "sums gone": (Path.unlink, "SHA256SUMS", "missing"),
    "sums that are a pipe": (pipe, "SHA256SUMS", "changed"),
    "sums that are none": (edit, "SHA256SUMS", "changed"),
    "sums that name no record": (without_evidence, "SHA256SUMS", "changed"),
}


@pytest.mark.parametrize("harm", HARM)
def test_what_was_changed_of_an_export_is_named(harm: str, exported: Path, tmp_path: Path) -> None:
    home = tmp_path / "e"
    shutil.copytree(exported, home)
    act, name, status = HARM[harm]
    act(home / name)
    assert stands(home) == {name: status}


def test_sums_of_a_stranger_lead_nowhere(exported: Path, tmp_path: Path) -> None:
    home = tmp_path / "e"
    shutil.copytree(exported, home)
    (tmp_path / "secret").write_text("s")
    with (home / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  tables/../../secret\n")
    (told,) = ms.open_run(home).verify().differ
    assert (told.status, told.found) == ("unreadable", "")


def test_whoever_goes_on_from_an_export_changes_nothing_of_its_evidence(asked: ms.Run, tmp_path: Path) -> None:
    home = copied(asked, tmp_path / "a").export(tmp_path / "e", files="all")
    ms.trust(home)
    run = ms.open_run(home)
    answer(run)
    run.step()
    assert run.events["event"].iloc[-1] != asked.events["event"].iloc[-1]
    assert stands(home) == {}
    again = run.export(tmp_path / "again")
    assert sums_of(again)["report.html"] != sums_of(home)["report.html"]
    assert stands(again) == {}
