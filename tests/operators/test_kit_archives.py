"""Archives of kits as people pack them, on whatever computer: taken, or refused with what to do, and then unchanged."""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import random
import struct
import subprocess
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit_lab import carry, drop_sums, execute, kit, pack, start

import matterstack as ms
from matterstack.errors import KitError
from matterstack.operators.requests import archives, kit_archives
from matterstack.storage.run_lock import RunLock


def snapshot(run: ms.Run) -> list[tuple[str, bytes]]:
    root = run.path / "operators"
    return [(str(p.relative_to(root)), p.read_bytes()) for p in sorted(root.rglob("*")) if p.is_file()]


def refused(run: ms.Run, archive: Path, says: str, **settings: Any) -> str:
    """Have an archive refused, see that it changed nothing, and return why."""
    before = snapshot(run)
    with pytest.raises(KitError, match=says) as caught:
        run.import_kits(archive, **settings)
    assert "nothing was changed" in str(caught.value)
    assert snapshot(run) == before
    assert list(run.path.glob("operators/.import*")) == []
    return str(caught.value)


def ended(run: ms.Run) -> None:
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


# -- what lies beside the results -----------------------------------------------------------------


def test_what_lies_beside_is_left_out_and_told(tmp_path: Path) -> None:
    run = start(tmp_path)
    away = carry(run, tmp_path)
    (away / "0.a.1/slurm-4711.out").write_text("")
    (away / "0.a.1/status.json.new").mkdir()
    (away / "0.a.1/status.json.new/x").write_text("")
    (away / "0.b.1/inputs/more.txt").write_text("")
    (away / "notes.txt").write_text("")
    imported = run.import_kits(pack(away, tmp_path / "back.zip"))
    assert imported.taken == ["0.a.1", "0.b.1"]
    beside = ["0.a.1/slurm-4711.out", "0.a.1/status.json.new/x", "0.b.1/inputs/more.txt", "notes.txt"]
    assert sorted(imported.left_out) == beside
    assert not (kit(run) / "slurm-4711.out").exists()
    ended(run)


def test_what_slurm_printed_comes_home(tmp_path: Path) -> None:
    run = start(tmp_path)
    away = carry(run, tmp_path)
    (away / "0.a.1/slurm.out").write_text("printed")
    assert run.import_kits(pack(away, tmp_path / "back.zip")).left_out == []
    assert (kit(run) / "slurm.out").read_text() == "printed"


@pytest.mark.parametrize(
    "extra",
    ["0.a.1/._submit.sh", "0.a.1/desktop.ini", "__MACOSX/0.a.1/._x", "0.a.1/__MACOSX/x", "0.a.1/output/Icon\r",
     "0.a.1/inputs/Thumbs.db", "0.a.1/.submit.sh.swp", "0.a.1/submit.sh~", "Desktop.ini"],
)  # fmt: skip
def test_what_computers_add_is_passed_over(tmp_path: Path, extra: str) -> None:
    run = start(tmp_path)
    archive = pack(carry(run, tmp_path), tmp_path / "back.zip")
    with zipfile.ZipFile(archive, "a") as out:
        out.writestr(extra, b"\0\5\x16\7")
    taken, *others = run.import_kits(archive)
    assert (taken, others) == (["0.a.1", "0.b.1"], [[], [], [], []])


def edit(away: Path, before: str, after: str) -> None:
    script = away / "submit.sh"
    text = script.read_text()
    assert before in text
    script.write_text(text.replace(before, after, 1))


def test_the_lines_for_sbatch_may_be_changed(tmp_path: Path) -> None:
    run = start(tmp_path)
    away = carry(run, tmp_path)
    edit(away / "0.a.1", "#SBATCH --nodes=1\n", "#SBATCH --account=abc123\n# ask Eve\n\n#SBATCH --time=9\n")
    edit(away / "0.b.1", "#SBATCH --partition=long\n", "")
    (away / "0.b.1/HOWTO.txt").write_text("my notes")
    assert run.import_kits(pack(away, tmp_path / "back.zip")).taken == ["0.a.1", "0.b.1"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("echo energy", "echo 42"),
        ("#!/bin/sh", "#!/bin/true"),
        ("PATH=", "module load x\nPATH="),
        ("code=$?", "code=0 "),
    ],
)
def test_the_rest_of_the_script_may_not(tmp_path: Path, before: str, after: str) -> None:
    run = start(tmp_path)
    away = carry(run, tmp_path)
    edit(away / "0.b.1", before, after)
    said = refused(run, pack(away, tmp_path / "back.zip"), "was altered")
    assert "submit.sh of the kit 0.b.1" in said
    assert "by hand" in said


# -- what comes later -----------------------------------------------------------------------------


def test_a_whole_archive_takes_the_place_of_one_that_was_packed_too_early(tmp_path: Path) -> None:
    run = start(tmp_path, ("a",))
    away = carry(run, tmp_path)
    whole = pack(away, tmp_path / "whole.zip")
    (away / "0.a.1/output/OUTCAR").write_text("half")
    (away / "0.a.1/output.sha256").unlink()
    token = run.attempts["token"].iloc[0]
    (away / "0.a.1/status.json").write_text(f'{{"token": "{token}", "status": "RUNNING"}}')
    early = pack(away, tmp_path / "early.zip")
    assert run.import_kits(early).taken == ["0.a.1"]
    run.step()
    assert "left no end" in str(run.tasks.loc["0.a", "reason"])
    assert run.import_kits(whole).taken == ["0.a.1"]
    assert run.import_kits(early).known == ["0.a.1"], "what is older does not come back"
    ended(run)
    assert (kit(run) / "output/OUTCAR").read_text() == "energy\n"


def test_results_in_parts_add_up(tmp_path: Path) -> None:
    run = start(tmp_path, ("a",))
    away = carry(run, tmp_path)
    for number, choose in enumerate(
        (lambda n: "result.json" in n or "MANIFEST" in n, lambda n: "OUTCAR" in n or "MANIFEST" in n or "std" in n)
    ):
        assert run.import_kits(pack(away, tmp_path / f"{number}.zip", choose)).taken == ["0.a.1"]
    ends = pack(away, tmp_path / "end.zip", lambda n: "output/" not in n)
    assert run.import_kits(ends).taken == ["0.a.1"]
    ended(run)
    assert run.results.loc["0.a", "e_eV"] == -2


def test_the_end_may_come_before_the_results(tmp_path: Path) -> None:
    run = start(tmp_path, ("a",))
    away = carry(run, tmp_path)
    assert run.import_kits(pack(away, tmp_path / "1.zip", lambda n: "output/" not in n)).taken == ["0.a.1"]
    run.step()
    assert "a transfer may be under way" in str(run.tasks.loc["0.a", "reason"])
    assert run.import_kits(pack(away, tmp_path / "2.zip", lambda n: "output/" in n or "MANIFEST" in n)).taken == [
        "0.a.1"
    ]
    ended(run)


def test_the_lock_is_free_while_an_archive_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(tmp_path)
    archive = pack(carry(run, tmp_path), tmp_path / "back.zip")
    unpack = kit_archives.unpack

    def watched(*given: Any) -> Any:
        with RunLock(run.path / "run.lock"):
            return unpack(*given)

    monkeypatch.setattr(kit_archives, "unpack", watched)
    assert run.import_kits(archive).taken == ["0.a.1", "0.b.1"]


def test_what_a_killed_import_left_is_removed_and_what_another_one_holds_is_not(tmp_path: Path) -> None:
    run = start(tmp_path)
    archive = pack(carry(run, tmp_path), tmp_path / "back.zip")
    left, held = run.path / "operators/.import.left", run.path / "operators/.import.held"
    for folder in (left, held):
        folder.mkdir()
        (folder / "unpacked").write_text("x")
    descriptor = os.open(held, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        run.import_kits(archive)
    finally:
        os.close(descriptor)
    assert (held / "unpacked").exists()
    assert not left.exists()


# -- other tools ----------------------------------------------------------------------------------


def repack(source: Path, target: Path, change: Callable[[zipfile.ZipInfo], None]) -> Path:
    """Write the members of an archive again, each header as another tool would."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            other = zipfile.ZipInfo(info.filename)
            change(other)
            new.writestr(other, old.read(info))
    return target


def test_backslashes_of_a_tool_of_windows(tmp_path: Path) -> None:
    run = start(tmp_path)
    archive = pack(carry(run, tmp_path), tmp_path / "back.zip")

    def windows(info: zipfile.ZipInfo) -> None:
        info.create_system = 0
        info.external_attr = 0
        info.filename = f"kits\\{info.filename}".replace("/", "\\")

    assert run.import_kits(repack(archive, tmp_path / "windows.zip", windows)).taken == ["0.a.1", "0.b.1"]
    ended(run)


def test_a_way_of_packing_that_is_not_known_here(tmp_path: Path) -> None:
    run = start(tmp_path)
    archive = pack(carry(run, tmp_path), tmp_path / "back.zip")
    raw = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as packed:
        info = packed.getinfo("0.b.1/output/OUTCAR")
    struct.pack_into("<H", raw, info.header_offset + 8, 9)
    central = raw.rindex(b"0.b.1/output/OUTCAR") - 46
    struct.pack_into("<H", raw, central + 10, 9)
    archive.write_bytes(raw)
    said = refused(run, archive, "Deflate64, as Windows does")
    assert "0.b.1/output/OUTCAR" in said
    assert "7-Zip" in said


@pytest.mark.parametrize(("suffix", "mode"), [("tar.gz", "w:gz"), ("tgz", "w:gz"), ("tar", "w"), ("tar.xz", "w:xz")])
def test_a_tar(tmp_path: Path, suffix: str, mode: Any) -> None:
    run = start(tmp_path)
    away = carry(run, tmp_path)
    archive = tmp_path / f"back.{suffix}"
    with tarfile.open(archive, mode) as out:
        out.add(away, "." if mode == "w" else "results")
    assert run.import_kits(archive).taken == ["0.a.1", "0.b.1"]
    assert run.import_kits(archive).known == ["0.a.1", "0.b.1"]
    ended(run)


def test_a_tar_as_the_program_of_that_name_packs_it(tmp_path: Path) -> None:
    run = start(tmp_path)
    away = carry(run, tmp_path)
    (away / "0.a.1/output" / ("long" * 40)).write_text("x")
    subprocess.run(["tar", "-czhf", tmp_path / "back.tar.gz", "0.a.1", "0.b.1"], cwd=away, check=True)
    assert run.import_kits(tmp_path / "back.tar.gz").taken == ["0.a.1", "0.b.1"]


def tar(away: Path, archive: Path, *entries: tarfile.TarInfo) -> Path:
    with tarfile.open(archive, "w:gz") as out:
        out.add(away, "kits")
        for entry in entries:
            out.addfile(entry, io.BytesIO(bytes(entry.size)))
    return archive


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (entry("kits/0.a.1/output/link", tarfile.SYMTYPE, "/etc/passwd"), "link or a device.*tar -czhf"),
        (entry("kits/0.a.1/output/hard", tarfile.LNKTYPE, "kits/0.a.1/output/OUTCAR"), "link or a device"),
        (entry("kits/0.a.1/output/pipe", tarfile.FIFOTYPE), "link or a device"),
        (entry("kits/0.a.1/output/disk", tarfile.BLKTYPE), "link or a device"),
        (entry("/etc/evil"), "plain relative path"),
        (entry("kits/../../evil"), "plain relative path"),
        (entry("kits/0.a.1/output/OUTCAR"), "twice"),
    ],
)
def test_a_tar_with_something_evil(tmp_path: Path, bad: tarfile.TarInfo, says: str) -> None:
    run = start(tmp_path)
    refused(run, tar(carry(run, tmp_path), tmp_path / "back.tar.gz", bad), says)


def test_a_tar_that_is_too_large_or_asks_for_too_much(tmp_path: Path) -> None:
    run = start(tmp_path)
    away = carry(run, tmp_path)
    refused(
        run, tar(away, tmp_path / "1.tar.gz", entry("kits/0.a.1/output/x", size=50_000_000)), "allowed", max_gib=0.01
    )
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 33  # a name of 8 GiB
    with gzip.open(tmp_path / "2.tar.gz", "wb") as out:
        out.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(1_000_000))
    refused(run, tmp_path / "2.tar.gz", "a header is too large")


def test_a_tar_that_breaks_off_between_two_files(tmp_path: Path) -> None:
    """`tarfile` takes a header that is damaged, or not there, for the end."""
    run = start(tmp_path)
    archive = tar(carry(run, tmp_path), tmp_path / "back.tar.gz")
    raw = bytearray(gzip.decompress(archive.read_bytes()))
    with tarfile.open(archive) as packed:
        last = max(packed.getmembers(), key=lambda member: member.offset)
    archive.write_bytes(raw[: last.offset])
    refused(run, archive, "breaks off, or is damaged")
    raw[last.offset + 150] ^= 255  # in the sum of the header
    archive.write_bytes(raw)
    refused(run, archive, "breaks off, or is damaged")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar"])
def test_a_damaged_archive_is_refused_wherever_it_is_damaged(tmp_path: Path, kind: str) -> None:
    run = start(tmp_path)
    away = carry(run, tmp_path)
    archive = tmp_path / f"back.{kind}"
    if kind == "zip":
        pack(away, archive)
    else:
        tar(away, archive)
        if kind == "tar":
            archive.write_bytes(gzip.decompress(archive.read_bytes()))
    whole = archive.read_bytes()
    chance = random.Random(20240501)
    before = snapshot(run)
    for _ in range(60):
        raw = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.5 else whole)
        for _ in range(chance.randrange(1, 9) if raw else 0):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        (tmp_path / "damaged").write_bytes(raw)
        try:
            run.import_kits(tmp_path / "damaged")
        except KitError:
            assert snapshot(run) == before
        else:
            before = snapshot(run)  # what is damaged lay in what nobody reads, such as a date
    run.import_kits(archive)
    ended(run)
    assert (kit(run) / "output/OUTCAR").read_text() == "energy\n"


@pytest.mark.parametrize("magic", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"])
def test_archives_in_a_form_of_their_own(tmp_path: Path, magic: bytes) -> None:
    run = start(tmp_path)
    (tmp_path / "back").write_bytes(magic + bytes(100))
    refused(run, tmp_path / "back", "pack as zip or tar.gz")


# -- names ----------------------------------------------------------------------------------------

NAMED = "echo 1 > 'Müller.dat'; echo 2 > '原子.dat'; echo e > OUTCAR"


def in_code(archive: Path, code: str) -> Path:
    """Write the names in a zip as the tool of a country does, which does not say in which code."""
    with zipfile.ZipFile(archive) as packed:
        names = [info.filename for info in packed.infolist()]
    raw = archive.read_bytes()
    for name in names:
        if not name.isascii():
            old, new = name.encode(), name.encode(code, "replace")
            assert len(new) <= len(old)
            # The header tells how long a name is: what is missing is filled up at a place where it does no harm.
            raw = raw.replace(old, new + b"_" * (len(old) - len(new)))
    flags = bytearray(raw)
    for begin, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = flags.find(begin)
        while place >= 0:
            (bits,) = struct.unpack_from("<H", flags, place + at)
            struct.pack_into("<H", flags, place + at, bits & ~0x800)
            place = flags.find(begin, place + 4)
    archive.write_bytes(flags)
    return archive


@pytest.mark.parametrize("code", ["utf-8", "latin-1", "cp437", "gbk", "shift-jis"])
def test_names_in_a_zip_in_the_code_of_a_country(tmp_path: Path, code: str) -> None:
    run = start(tmp_path, ("a",), NAMED, outputs=["Müller.dat", "原子.dat"], files={"Größe.txt": "x"})
    archive = pack(carry(run, tmp_path), tmp_path / "back.zip")
    assert run.import_kits(in_code(archive, code)).taken == ["0.a.1"]
    ended(run)
    assert (kit(run) / "output/Müller.dat").read_text() == "1\n"
    assert (kit(run) / "output/原子.dat").read_text() == "2\n"


def test_names_in_utf_8_that_do_not_say_so_and_have_no_sums(tmp_path: Path) -> None:
    """As a Macintosh packs."""
    run = start(tmp_path, ("a",), NAMED, outputs=["Müller.dat"])
    away = carry(run, tmp_path)
    drop_sums(away / "0.a.1")
    archive = in_code(pack(away, tmp_path / "back.zip"), "utf-8")
    assert run.import_kits(archive).taken == ["0.a.1"]
    ended(run)


@pytest.mark.parametrize("sums", [True, False])
def test_names_of_a_macintosh(tmp_path: Path, sums: bool) -> None:
    run = start(tmp_path, ("a",), NAMED, outputs=["Müller.dat"])
    away = carry(run, tmp_path)
    name = away / "0.a.1/output/Müller.dat"
    name.rename(name.with_name(unicodedata.normalize("NFD", "Müller.dat")))
    if not sums:
        drop_sums(away / "0.a.1")
    archive = pack(away, tmp_path / "back.zip")
    assert run.import_kits(archive).taken == ["0.a.1"]
    ended(run)
    assert (kit(run) / "output/Müller.dat").read_text() == "1\n"


def test_a_tar_with_names_that_are_no_utf_8(tmp_path: Path) -> None:
    run = start(tmp_path, ("a",), NAMED, outputs=["Müller.dat"])
    away = carry(run, tmp_path)
    os.rename(away / "0.a.1/output/Müller.dat", os.fsencode(away / "0.a.1/output") + b"/M\xfcller.dat")
    subprocess.run(["tar", "-czf", tmp_path / "back.tar.gz", "0.a.1"], cwd=away, check=True)
    assert run.import_kits(tmp_path / "back.tar.gz").taken == ["0.a.1"]
    ended(run)


def test_names_that_differ_in_case_are_two_files(tmp_path: Path) -> None:
    run = start(tmp_path, ("a",), "echo 1 > Co.dat; echo 2 > CO.dat", outputs=["Co.dat", "CO.dat"])
    assert run.import_kits(pack(carry(run, tmp_path), tmp_path / "back.zip")).taken == ["0.a.1"]
    assert (kit(run) / "output/CO.dat").read_text() == "2\n"


# -- out ------------------------------------------------------------------------------------------


def test_only_what_was_made_goes_out(tmp_path: Path) -> None:
    run = start(tmp_path)
    (kit(run) / "inputs/secret").write_text("PRIVATE KEY")
    run.export_kits(tmp_path / "kits.zip")
    with zipfile.ZipFile(tmp_path / "kits.zip") as packed:
        assert not [name for name in packed.namelist() if "secret" in name]
    (kit(run) / "inputs/start.xyz").write_text("2\n")
    with pytest.raises(KitError, match=r"0\.a\.1/inputs/start\.xyz is not as it was made.*no kit was exported"):
        run.export_kits(tmp_path / "other.zip")
    assert not (tmp_path / "other.zip").exists()


def test_resources_reach_the_lines_for_sbatch(tmp_path: Path) -> None:
    resources = ms.Resources(partition="gpu", account="abc", qos="high", constraint="a100", extra=["--exclusive"])
    run = start(tmp_path, ("a",), resources=resources)
    script = (kit(run) / "submit.sh").read_text()
    for line in (
        "--partition=gpu",
        "--account=abc",
        "--qos=high",
        "--constraint=a100",
        "--exclusive",
        "--output=slurm.out",
    ):
        assert f"#SBATCH {line}\n" in script


def test_a_kit_finds_its_own_directory(tmp_path: Path) -> None:
    """Slurm runs a copy of the script; and inside a job that was begun elsewhere, it is run by hand."""
    run = start(tmp_path, ("a",))
    spool = tmp_path / "spool"
    spool.mkdir()
    copy = spool / "slurm_script"
    copy.write_bytes((kit(run) / "submit.sh").read_bytes())
    elsewhere = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "1", "SLURM_SUBMIT_DIR": str(tmp_path)}
    lost = subprocess.run(["sh", copy], env=elsewhere, capture_output=True, text=True, timeout=60)
    assert lost.returncode == 1
    assert "is not the directory of this kit" in lost.stderr
    assert execute(kit(run), **elsewhere).returncode == 0
    assert (kit(run) / "output/OUTCAR").exists()


def test_a_kit_without_inputs_runs_where_its_archive_was_unpacked(tmp_path: Path) -> None:
    """An archive has no empty folders."""
    run = start(tmp_path, ("a",), "echo e > OUTCAR", files={})
    away = carry(run, tmp_path)
    assert not (away / "0.a.1/inputs").exists()
    assert run.import_kits(pack(away, tmp_path / "back.zip")).taken == ["0.a.1"]
    ended(run)


def test_a_kit_whose_inputs_were_left_behind_does_not_run(tmp_path: Path) -> None:
    run = start(tmp_path, ("a",))
    (kit(run) / "inputs").rename(tmp_path / "inputs")
    assert execute(kit(run)).returncode == 1
    run.step()
    assert str(run.tasks.loc["0.a", "reason"]) == "output/ in 0.a.1"
    (tmp_path / "inputs").rename(kit(run) / "inputs")
    assert execute(kit(run)).returncode == 0
    ended(run)


def test_faults_of_every_kind_are_kit_errors() -> None:
    for error in (RuntimeError("x"), OSError("x"), UnicodeDecodeError("utf-8", b"", 0, 1, "x"), struct.error("x")):
        with (
            pytest.raises(KitError, match=r"back\.zip: OUTCAR cannot be unpacked"),
            archives.faults("back.zip: OUTCAR"),
        ):
            raise error
