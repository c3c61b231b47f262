"""Kits go out, run with nothing but a shell, and come home in an archive that nobody has to trust."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crashes import killed_at
from kit_lab import GREETING, carry, drop_sums, execute, kit, pack, start

import matterstack as ms
from matterstack.errors import (
    InvalidConfigError,
    InvalidTaskError,
    KitError,
    RunLockedError,
    RunStatusError,
)
from matterstack.storage.run_lock import RunLock


def test_a_kit_holds_what_it_needs(tmp_path: Path) -> None:
    run = start(tmp_path, resources=ms.Resources(nodes=2, tasks=8, memory_gib=3, gpus=1, walltime_s=3725))
    directory = kit(run)
    shown = sorted(path.name for path in directory.glob("[!.]*"))
    assert shown == ["HOWTO.txt", "MANIFEST.json", "inputs", "submit.sh"]
    assert "show/" not in (directory / "HOWTO.txt").read_text()
    manifest = json.loads((directory / "MANIFEST.json").read_text())
    assert manifest["token"] == run.attempts.loc["0.a.1", "token"]
    for name, sha256 in manifest["sha256"].items():
        assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == sha256
    assert set(manifest["sha256"]) == {"HOWTO.txt", "submit.sh", "inputs/start.xyz", "inputs/deep/er.txt"}
    script = (directory / "submit.sh").read_text()
    for line in ("--nodes=2", "--ntasks=8", "--mem=1536M", "--gpus=1", "--time=0-01:02:05", "--partition=long"):
        assert f"#SBATCH {line}\n" in script


def test_a_kit_runs_with_nothing_but_a_shell_and_comes_home(tmp_path: Path) -> None:
    run = start(tmp_path)
    away = carry(run, tmp_path)
    assert (away / "0.a.1/output/stdout.txt").read_text() == f"1\n{GREETING}\n"
    assert not Path("/tmp/never").exists()
    imported = run.import_kits(pack(away, tmp_path / "back.zip"))
    assert imported == (["0.a.1", "0.b.1"], [], [], [], [])
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert list(run.results["e_eV"]) == [-2, -2]
    assert run.import_kits(tmp_path / "back.zip").known == ["0.a.1", "0.b.1"], "twice does no harm"
    assert run.status is ms.RunStatus.COMPLETED


def test_a_command_in_a_kit_that_fails(tmp_path: Path) -> None:
    run = start(tmp_path, ("a",), "echo lost >&2; exit 3")
    directory = kit(run)
    assert execute(directory).returncode == 3
    run.step()
    assert run.tasks.loc["0.a", "reason"] == "exit code 3; stderr ends with: lost"


def test_a_preamble_that_ends_at_the_first_error_does_not_hide_how_the_command_ended(tmp_path: Path) -> None:
    operators = {"manual": ms.ManualHPCOperator(preamble="set -eu")}
    flow = ms.Workflow([ms.Task("a", "exit 3", operator="manual")])
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    run.step()
    assert execute(kit(run)).returncode == 3
    run.step()
    assert run.tasks.loc["0.a", "reason"] == "exit code 3"


def test_a_kit_runs_once(tmp_path: Path) -> None:
    run = start(tmp_path, ("a",), "echo x >> ../count; touch OUTCAR; echo y > OUTCAR")
    assert execute(kit(run)).returncode == 0
    again = execute(kit(run))
    assert again.returncode == 1
    assert "ran before" in again.stderr
    assert (kit(run) / "count").read_text() == "x\n"


def test_a_list_of_arguments_is_no_shell_text(tmp_path: Path) -> None:
    run = start(tmp_path, ("a",), ["printf", "%s|", "a b", "$HOME", "it's"], outputs=[])
    assert execute(kit(run)).returncode == 0
    assert (kit(run) / "output/stdout.txt").read_text() == "a b|$HOME|it's|"


def test_a_secret_is_taken_from_where_the_kit_runs(tmp_path: Path) -> None:
    run = start(tmp_path, ("a",), "echo $KEY > OUTCAR", env={"KEY": "env:MY_KEY"})
    assert "MY_KEY" in (kit(run) / "HOWTO.txt").read_text()
    refused = execute(kit(run))
    assert refused.returncode != 0
    assert "MY_KEY" in refused.stderr
    assert not (kit(run) / "output").exists(), "nothing has to be cleared away before it is run again"
    assert execute(kit(run), MY_KEY="s3cret").returncode == 0
    assert (kit(run) / "output/OUTCAR").read_text() == "s3cret\n"


def test_home_in_parts_and_in_any_order(tmp_path: Path) -> None:
    run = start(tmp_path, ("a", "b", "c"))
    away = carry(run, tmp_path)
    first = run.import_kits(pack(away, tmp_path / "1.zip", lambda name: name.startswith("0.c")))
    assert first.taken == ["0.c.1"]
    run.step()
    # Of one kit everything, of one nothing that came of it, and of one what is home already.
    second = run.import_kits(
        pack(away, tmp_path / "2.zip", lambda name: "0.a.1/output" not in name and "0.a.1/status" not in name)
    )
    assert second == (["0.b.1"], ["0.c.1"], ["0.a.1"], [], [])
    run.step()
    assert dict(run.tasks["status"]) == {"0.a": "SUBMITTED", "0.b": "COMPLETED", "0.c": "COMPLETED"}
    run.import_kits(pack(away, tmp_path / "3.zip"))
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_results_that_came_incomplete_are_replaced_by_whole_ones(tmp_path: Path) -> None:
    run = start(tmp_path, ("a",))
    away = carry(run, tmp_path)
    run.import_kits(
        pack(
            away,
            tmp_path / "1.zip",
            lambda name: "status" not in name and "OUTCAR" not in name and "sha256" not in name,
        )
    )
    run.step()
    assert "OUTCAR is missing" in str(run.tasks.loc["0.a", "reason"])
    run.import_kits(pack(away, tmp_path / "2.zip"))
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def snapshot(run: ms.Run) -> list[tuple[str, bytes]]:
    root = run.path / "operators"
    return [(str(p.relative_to(root)), p.read_bytes()) for p in sorted(root.rglob("*")) if p.is_file()]


def _evil(member: str, content: bytes = b"evil", mode: int = 0o100644) -> Callable[[zipfile.ZipFile], None]:
    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("placeholder")
        info.filename = member
        info.external_attr = mode << 16
        archive.writestr(info, content)

    return add


@pytest.mark.parametrize(
    ("add", "says"),
    [
        (_evil("../../evil"), "plain relative path"),
        (_evil("0.a.1/output/../../../evil"), "plain relative path"),
        (_evil("/etc/evil"), "plain relative path"),
        (_evil("0.a.1\\output\\evil"), "plain relative path"),
        (_evil("0.a.1/output/evil\nname"), "plain relative path"),
        (_evil("0.a.1/output/link", b"/etc/passwd", stat.S_IFLNK | 0o777), "link or a device"),
        (_evil("0.a.1/output/pipe", b"", stat.S_IFIFO | 0o666), "link or a device"),
        (_evil("0.a.1/output/OUTCAR"), "twice"),
        (_evil("0.a.1/0.b.1/MANIFEST.json"), "no part of the kit"),
        (_evil("0.z.1/MANIFEST.json", b'{"token": "ms-of-another-run"}'), "not of this run"),
        (_evil("0.z.1/MANIFEST.json", b"[]"), "cannot be used"),
        (_evil("0.z.1/MANIFEST.json", b'{"token": '), "cannot be used"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_something_evil_changes_nothing(
    tmp_path: Path, add: Callable[[zipfile.ZipFile], None], says: str
) -> None:
    run = start(tmp_path)
    archive = pack(carry(run, tmp_path), tmp_path / "back.zip")
    with zipfile.ZipFile(archive, "a") as out:
        add(out)
    before = snapshot(run)
    with pytest.raises(KitError, match=says) as caught:
        run.import_kits(archive)
    assert "nothing was changed" in str(caught.value)
    assert snapshot(run) == before
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("submit.sh", "was altered"),
        ("inputs/start.xyz", "was altered"),
        ("MANIFEST.json", "was altered|cannot be used"),
        ("output/OUTCAR", "its SHA-256 differs"),
    ],
)
def test_a_kit_that_was_altered_changes_nothing(tmp_path: Path, change: str, says: str) -> None:
    run = start(tmp_path)
    away = carry(run, tmp_path)
    path = away / "0.b.1" / change
    path.write_bytes(path.read_bytes() + b" ")
    before = snapshot(run)
    with pytest.raises(KitError, match=says):
        run.import_kits(pack(away, tmp_path / "back.zip"))
    assert snapshot(run) == before


def test_kits_whose_results_were_swapped(tmp_path: Path) -> None:
    run = start(tmp_path)
    away = carry(run, tmp_path)
    for name in ("output", "output.sha256", "status.json"):
        (away / "0.a.1" / name).rename(away / "x")
        (away / "0.b.1" / name).rename(away / "0.a.1" / name)
        (away / "x").rename(away / "0.b.1" / name)
    with pytest.raises(KitError, match="of another kit"):
        run.import_kits(pack(away, tmp_path / "back.zip"))


def test_a_bomb_and_a_damaged_archive(tmp_path: Path) -> None:
    run = start(tmp_path)
    away = carry(run, tmp_path)
    with open(away / "0.a.1/output/bomb", "wb") as file:
        file.truncate(50_000_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as out:
        for path in away.rglob("*"):
            out.write(path, path.relative_to(away))
    assert (tmp_path / "bomb.zip").stat().st_size < 100_000
    before = snapshot(run)
    with pytest.raises(KitError, match="allowed"):
        run.import_kits(tmp_path / "bomb.zip", max_gib=0.01)
    with pytest.raises(KitError, match="max_gib has to be more than 0, and is nan"):
        run.import_kits(tmp_path / "bomb.zip", max_gib=float("nan"))
    whole = (tmp_path / "bomb.zip").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no zip", whole[:2000] + bytes(64) + whole[2064:]):
        (tmp_path / "damaged.zip").write_bytes(damaged)
        with pytest.raises(KitError):
            run.import_kits(tmp_path / "damaged.zip")
    with pytest.raises(KitError, match="no file"):
        run.import_kits(tmp_path / "nowhere.zip")
    assert snapshot(run) == before


@pytest.mark.parametrize("point", ["kits.checked", "kits.placed"])
@pytest.mark.parametrize("hit", [1, 2, 5])
def test_killed_while_results_come_home(tmp_path: Path, point: str, hit: int) -> None:
    run = start(tmp_path)
    archive = pack(carry(run, tmp_path), tmp_path / "back.zip")
    killed_at(point, hit, lambda: ms.open_run(run.path).import_kits(archive))
    run.step()
    assert "FAILED" not in set(run.tasks["status"])
    run.import_kits(archive)
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_taking_home_is_locked_and_packing_needs_a_kit(tmp_path: Path) -> None:
    run = start(tmp_path)
    archive = pack(carry(run, tmp_path), tmp_path / "back.zip")
    with RunLock(run.path / "run.lock"), pytest.raises(RunLockedError):
        ms.open_run(run.path).import_kits(archive)
    run.cancel()
    assert (kit(run) / "CANCELLED.txt").exists()
    with pytest.raises(RunStatusError, match="no kit waits"):
        run.export_kits(tmp_path / "none.zip")
    assert not (tmp_path / "none.zip").exists()
    assert run.import_kits(archive).known == ["0.a.1", "0.b.1"]


def test_a_macintosh_adds_files_of_its_own(tmp_path: Path) -> None:
    run = start(tmp_path)
    archive = pack(carry(run, tmp_path), tmp_path / "back.zip")
    with zipfile.ZipFile(archive, "a") as out:
        out.writestr("__MACOSX/0.a.1/._output", b"x")
        out.writestr("0.a.1/.DS_Store", b"x")
    assert run.import_kits(archive).taken == ["0.a.1", "0.b.1"]


@pytest.mark.parametrize("settings", [{"empty_output_grace_s": -1}, {"sbatch": ["x\n#SBATCH -N 9"]}, {"preamble": 3}])
def test_settings_that_make_no_sense(settings: Any) -> None:
    with pytest.raises(InvalidConfigError):
        ms.ManualHPCOperator(**settings)


@pytest.mark.parametrize("task", [{"env": {"A-B": "x"}}, {"env": {"A": "env:$(x)"}}, {"command": None}])
def test_tasks_that_no_kit_can_run(tmp_path: Path, task: Any) -> None:
    with pytest.raises(InvalidTaskError):
        start(tmp_path, **task)


def test_an_export_that_fails_leaves_no_half_archive(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.export_kits(tmp_path / "kits.zip")
    before = (tmp_path / "kits.zip").read_bytes()
    (kit(run) / "inputs/start.xyz").unlink()
    with pytest.raises(KitError, match="start"):
        run.export_kits(tmp_path / "kits.zip")
    assert (tmp_path / "kits.zip").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["kits.zip", "workspaces"]


def test_an_export_replaces_the_archive_before_it_and_no_other_file(tmp_path: Path) -> None:
    run = start(tmp_path)
    (tmp_path / "POSCAR").write_text("the only copy")
    with pytest.raises(KitError, match="POSCAR is there, and is no zip archive, so it stays"):
        run.export_kits(tmp_path / "POSCAR")
    assert (tmp_path / "POSCAR").read_text() == "the only copy"
    for _ in range(2):
        assert run.export_kits(tmp_path / "kits.zip")


@pytest.mark.parametrize("names", [["../../../../../../secret"], ["/etc/hostname"], ["a/../../b"], 5, None])
def test_a_manifest_that_was_written_anew_takes_no_file_out(tmp_path: Path, names: object) -> None:
    run = start(tmp_path)
    (tmp_path / "secret").write_text("PRIVATE KEY")
    manifest = kit(run) / "MANIFEST.json"
    sums = dict.fromkeys(names, "0" * 64) if isinstance(names, list) else names
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "sha256": sums}))
    with pytest.raises(KitError, match="no kit was exported"):
        run.export_kits(tmp_path / "kits.zip")
    assert not (tmp_path / "kits.zip").exists()


def test_a_link_in_a_kit_takes_no_file_out(tmp_path: Path) -> None:
    run = start(tmp_path)
    (tmp_path / "secret").write_text("PRIVATE KEY")
    place = kit(run) / "inputs/start.xyz"
    place.unlink()
    place.symlink_to(tmp_path / "secret")
    with pytest.raises(KitError, match="link"):
        run.export_kits(tmp_path / "kits.zip")
    assert list(tmp_path.glob("*kits.zip*")) == []


def test_a_name_that_is_no_text_holds_nothing_up(tmp_path: Path) -> None:
    run = start(tmp_path)
    output = os.fsencode(kit(run) / "output")
    os.mkdir(output)
    with open(output + b"/.M\xfcller.dat.aB3xY9", "w"):
        pass
    run.step()
    run.step()
    reasons = " ".join(str(reason) for reason in run.attempts["reason"])
    assert "M\\udcfcller.dat" in reasons
    assert "M\\udcfcller.dat" in str(run.explain())


@pytest.mark.parametrize(("first", "second"), [("x", "x-1"), ("x", "x/1"), ("x y", "x"), ("b", "a")])
def test_kits_are_told_apart_whatever_their_folders_are_called(tmp_path: Path, first: str, second: str) -> None:
    run = start(tmp_path)
    away = carry(run, tmp_path)
    (away / "0.a.1").rename(away / first)
    (away / second).parent.mkdir(exist_ok=True)
    (away / "0.b.1").rename(away / second)
    archive = pack(away, tmp_path / "back.zip")
    if "/" in second:  # one kit in another is no kit of its own
        with pytest.raises(KitError, match="no part of the kit"):
            run.import_kits(archive)
    else:
        taken, *others = run.import_kits(archive)
        assert (sorted(taken), others) == (["0.a.1", "0.b.1"], [[], [], [], []])
        assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_what_a_kit_left_has_the_hashes_that_it_made_there(tmp_path: Path) -> None:
    run = start(tmp_path, names=("a",))
    assert execute(kit(run)).returncode == 0
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    made = run.made_from("a")
    assert {one.name: one.sha256 for one in made.outputs} == {
        name: hashlib.sha256((kit(run) / "output" / name).read_bytes()).hexdigest()
        for name in ("OUTCAR", "result.json")
    }
    assert not made.not_hashed


def test_a_kit_that_came_home_without_sums_says_that_nobody_hashed_it(tmp_path: Path) -> None:
    run = start(tmp_path, names=("a",))
    assert execute(kit(run)).returncode == 0
    drop_sums(kit(run))
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert run.made_from("a").not_hashed == {"OUTCAR": "the kit came home without its sum"}
