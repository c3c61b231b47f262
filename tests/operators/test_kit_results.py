"""What comes home with a kit, as people, clusters and their programs bring it: taken when proved, never silently."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit_lab import execute, kit

import matterstack as ms
from matterstack.operators.requests import kit_results, kit_sums
from matterstack.operators.requests.kit_ending import Kind
from matterstack.operators.requests.kit_results import match_names, read_sums


def make(base: Path, command: str = "echo e > OUTCAR", grace_s: float = 3600.0, **task: Any) -> ms.Run:
    wanted = ms.Task("a", command, operator="manual", **{"outputs": ["OUTCAR"], **task})
    operators = {"manual": ms.ManualHPCOperator(empty_output_grace_s=grace_s)}
    run = ms.initialize_run("w", ms.Workflow([wanted]), base_path=base, operators=operators)
    run.step()
    return run


def look(run: ms.Run, times: int = 3) -> tuple[str, str]:
    for _ in range(times):
        run.step()
    task = run.tasks.loc["0.a"]
    return str(task["status"]), str(task["reason"])


def bring(run: ms.Run, **files: str | bytes) -> Path:
    """Put files into the kit; a double underscore stands for a slash, and a single one for a dot."""
    directory = kit(run)
    for name, content in files.items():
        path = directory / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return directory


def sums(**contents: str) -> str:
    return "".join(
        f"{hashlib.sha256(content.encode()).hexdigest()}  ./{name.replace('_', '.')}\n"
        for name, content in contents.items()
    )


COMPLETED = '{"status": "COMPLETED"}'
RUNNING = '{"status": "RUNNING", "host": "c01", "started_at": "2024-05-01T10:00:00Z"}'


# -- the end --------------------------------------------------------------------------------------


def test_a_kit_that_was_killed_waits_and_tells_where_it_ran(tmp_path: Path) -> None:
    run = make(tmp_path, "echo half > OUTCAR; echo > ../begun; sleep 60")
    job = subprocess.Popen(["sh", "submit.sh"], cwd=kit(run), start_new_session=True)
    try:
        while not (kit(run) / "begun").exists():
            assert job.poll() is None
            time.sleep(0.01)
    finally:
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    (kit(run) / "slurm.out").write_text("slurmstepd: error: *** JOB 7 ON c01 CANCELLED DUE TO TIME LIMIT ***\n")
    status, reason = look(run)
    assert status == "SUBMITTED"
    assert f"it began on {os.uname().nodename}" in reason
    assert "left no end: it runs, or was killed; slurm.out ends with: slurmstepd" in reason
    assert "DUE TO TIME LIMIT" in reason
    # Run again there, it is taken.
    shutil.rmtree(kit(run) / "output")
    (kit(run) / "submit.sh").write_text((kit(run) / "submit.sh").read_text().replace("sleep 60", "true"))
    assert execute(kit(run)).returncode == 0
    assert look(run)[0] == "COMPLETED"


def test_a_kit_that_runs_may_be_ended_by_the_word_of_a_person(tmp_path: Path) -> None:
    run = make(tmp_path, retries=1)
    bring(run, output__OUTCAR="half", status_json=RUNNING)
    assert "on c01 at 2024-05-01T10:00:00Z" in look(run)[1]
    bring(run, status_json='{"status": "FAILED"}')
    look(run)
    assert list(run.attempts["status"]) == ["FAILED", "WAITING"]
    assert run.attempts["reason"].iloc[0] == "status.json says FAILED"


def test_done_is_a_word_about_the_end(tmp_path: Path) -> None:
    run = make(tmp_path)
    bring(run, output__OUTCAR="whole", status_json=RUNNING)
    assert look(run)[0] == "SUBMITTED"
    bring(run, done="")
    assert look(run)[0] == "COMPLETED"


@pytest.mark.parametrize("task", [{"outputs": []}, {}])
def test_files_alone_do_not_tell_that_the_command_is_over(tmp_path: Path, task: Any) -> None:
    """Where nothing is expected, or where the kit's own script has begun."""
    run = make(tmp_path, **task)
    bring(run, output__OUTCAR="half", output__stdout_txt="", output__stderr_txt="")
    before = time.time() - 10
    for path in (kit(run) / "output").iterdir():
        os.utime(path, (before, before))
    status, reason = look(run)
    assert status == "SUBMITTED"
    assert 'make an empty file called "done"' in reason
    bring(run, done="")
    assert look(run)[0] == "COMPLETED"


def test_a_kit_that_waits_for_its_end_is_bounded_by_the_tasks_limit(tmp_path: Path) -> None:
    run = make(tmp_path, timeout_s=0.001)
    bring(run, output__OUTCAR="half", status_json=RUNNING)
    status, reason = look(run)
    assert status == "FAILED"
    assert "no whole result was brought home within 0.001 s: it began on c01" in reason


# -- transfers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", [False, True])
def test_what_the_sums_list_is_on_its_way(tmp_path: Path, output: bool) -> None:
    """rsync brings the files of a directory before its folders."""
    run = make(tmp_path)
    content = {"OUTCAR": "e", "result_json": "{}", "WAVECAR": "w"}
    bring(run, status_json=COMPLETED, output_sha256=sums(**content))
    if output:
        (kit(run) / "output").mkdir()
    assert "a transfer may be under way" in look(run)[1]
    bring(run, output__OUTCAR="e")
    assert "result.json is missing, and output.sha256 lists it; a transfer" in look(run)[1]
    bring(run, output__result_json="{}")
    assert look(run)[0] == "COMPLETED", "what nobody has asked for may stay there"


def test_what_does_not_come_within_the_grace_fails(tmp_path: Path) -> None:
    run = make(tmp_path, grace_s=0)
    bring(run, status_json=COMPLETED, output_sha256=sums(OUTCAR="e", x="x"), output__x="x")
    status, reason = look(run)
    assert status == "FAILED"
    assert "the expected output OUTCAR is missing, and output.sha256 lists it, and nothing more came for 0 s" in reason


def test_a_status_that_promises_sums_comes_before_them(tmp_path: Path) -> None:
    run = make(tmp_path)
    listed = sums(stdout_txt="", OUTCAR="half")
    promise = hashlib.sha256(listed.encode()).hexdigest()
    bring(run, status_json=json.dumps({"status": "COMPLETED", "sums": promise}), output__OUTCAR="half")
    assert "output.sha256 is missing" in look(run)[1]
    bring(run, output__OUTCAR="")
    assert "OUTCAR is empty; a transfer may be under way" in look(run)[1]
    bring(run, output__OUTCAR="half")
    for length in (0, 40, listed.index("\n") + 1):
        bring(run, output_sha256=listed[:length])
        assert "output.sha256 is not what the kit left" in look(run)[1]
    bring(run, output_sha256=listed)
    assert look(run)[0] == "COMPLETED"


@pytest.mark.parametrize("length", [0, 8192, 50_000])
def test_a_large_file_is_judged_when_it_lies_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """scp and cp write where the file shall be."""
    monkeypatch.setattr(kit_results, "_SETTLE_S", 600.0)  # however long the looks take
    run = make(tmp_path)
    whole = "x" * 100_000
    bring(run, status_json=COMPLETED, output_sha256=sums(OUTCAR=whole), output__OUTCAR=whole[:length])
    status, reason = look(run)
    assert (status, "its SHA-256 differs" in reason) == ("SUBMITTED", True)
    bring(run, output__OUTCAR=whole)
    assert look(run)[0] == "COMPLETED"


def test_a_large_file_that_differs_and_lies_still_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit_results, "_SETTLE_S", 0.0)
    run = make(tmp_path)
    bring(run, status_json=COMPLETED, output_sha256=sums(OUTCAR="x"), output__OUTCAR="x" * 100_000)
    status, reason = look(run)
    assert status == "FAILED"
    assert "OUTCAR is not what the command left: its SHA-256 differs" in reason


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit that has run on a cluster, with a large file that is expected and one that is not."""
    command = "head -c 70000 /dev/urandom > OUTCAR; cp OUTCAR WAVECAR; echo '{}' > result.json"
    directory = kit(make(tmp_path_factory.mktemp("away"), command))
    assert execute(directory).returncode == 0
    return directory


@given(st.randoms(use_true_random=False), st.booleans())
def test_in_whatever_order_and_pieces_results_come_none_are_taken_half(
    away: Path, chance: random.Random, in_place: bool
) -> None:
    names = ["status.json", "output.sha256", *(f"output/{path.name}" for path in (away / "output").iterdir())]
    chance.shuffle(names)
    token = json.loads((away / "MANIFEST.json").read_text())["token"]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patient:
        patient.setattr(kit_results, "_SETTLE_S", 600.0)  # however busy this machine is
        home = Path(folder)

        def check() -> bool:
            came = kit_results.look(home, token, ["OUTCAR"], kit_sums.Sums(), time.time())
            told = came.ending.status == "COMPLETED"
            assert not (told and came.problem is not None and came.problem.kind is Kind.FINAL), came.problem
            taken = told and came.problem is None
            for name in ("output/OUTCAR", "output/result.json"):
                assert not taken or (home / name).read_bytes() == (away / name).read_bytes()
            return taken

        for name in names:
            target = home / name
            target.parent.mkdir(exist_ok=True)
            partial = target if in_place else target.with_name(f".{target.name}.aB3xY9")
            content = (away / name).read_bytes()
            with open(partial, "wb", buffering=0) as file:
                for piece in range(0, len(content), 32_768):
                    check()
                    file.write(content[piece : piece + 32_768])
                    check()
            partial.rename(target)
        assert check()


@pytest.mark.parametrize("extra", ["W0001.tmp", "WFULL0001.tmp", "._result.json", ".DS_Store"])
def test_programs_and_computers_leave_files_that_look_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    monkeypatch.setattr(kit_results, "_SETTLE_S", 0.1)
    run = make(tmp_path, grace_s=0)
    bring(run, output__OUTCAR="e")
    (kit(run) / "output" / extra).write_text("x")
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


@pytest.mark.parametrize("half", [".OUTCAR.x7KdQ2", "OUTCAR.part", ".result.json.aB3xY9"])
def test_half_of_what_is_expected_is_waited_for(tmp_path: Path, half: str) -> None:
    run = make(tmp_path)
    bring(run, output__OUTCAR="e")
    (kit(run) / "output" / half).write_text("x")
    assert f"{half} is half a transfer" in look(run)[1]


@pytest.mark.parametrize("name", [".DS_Store", "._OUTCAR", "Thumbs.db", "desktop.ini", "Icon\r", ".OUTCAR.swp"])
def test_what_computers_add_is_no_result(tmp_path: Path, name: str) -> None:
    run = make(tmp_path, grace_s=0, outputs=[], retries=1)
    bring(run, done="")
    (kit(run) / "output").mkdir()
    (kit(run) / "output" / name).write_text("x")
    look(run)
    assert run.attempts["status"].iloc[0] == "FAILED"
    assert "output/ is empty" in run.attempts["reason"].iloc[0]


def test_links_are_named_with_what_to_do(tmp_path: Path) -> None:
    run = make(tmp_path, "echo e > OUTCAR.relax2; ln -s OUTCAR.relax2 OUTCAR")
    assert execute(kit(run)).returncode == 0
    status, reason = look(run)
    assert status == "SUBMITTED"
    assert "the expected output OUTCAR is a link: bring the file itself (rsync -L, scp or cp -L); a transfer" in reason
    (kit(run) / "output/OUTCAR").unlink()
    shutil.copy(kit(run) / "output/OUTCAR.relax2", kit(run) / "output/OUTCAR")
    assert look(run)[0] == "COMPLETED"


def test_what_cannot_be_read_is_not_empty(tmp_path: Path) -> None:
    run = make(tmp_path, grace_s=0)  # imports all that the child, who may not be able to read it, will need
    assert execute(kit(run)).returncode == 0
    assert look(run)[0] == "COMPLETED"
    base = Path(tempfile.mkdtemp(prefix="matterstack-kits-"))
    base.chmod(0o777)
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.close(reader)
            if os.getuid() == 0:  # root reads everything
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.environ |= {"HOME": str(base), "XDG_STATE_HOME": str(base), "XDG_DATA_HOME": str(base)}
            os.write(writer, _look_at_what_cannot_be_read(base).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as told:
        *waits, last = told.read().splitlines() or ["nothing"]
    os.waitpid(child, 0)
    shutil.rmtree(base)
    assert last == "COMPLETED"
    assert len(waits) == 4
    for line in waits:
        assert line.startswith("SUBMITTED")
        assert "chmod a+r" in line


def _look_at_what_cannot_be_read(base: Path) -> str:
    run = make(base, grace_s=0)
    execute(kit(run))
    lines = []
    for name, mode in (("output", 0o755), ("output/OUTCAR", 0o644), ("status.json", 0o644), ("output.sha256", 0o644)):
        (kit(run) / name).chmod(0)
        lines.append(" ".join(look(run)))
        (kit(run) / name).chmod(mode)
    return "\n".join([*lines, look(run)[0]])


# -- names ----------------------------------------------------------------------------------------


def test_an_accent_that_a_macintosh_has_taken_apart(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFC", "Müller.dat")
    run = make(tmp_path, outputs=[name])
    bring(run, status_json=COMPLETED)
    (kit(run) / "output").mkdir()
    (kit(run) / "output" / unicodedata.normalize("NFD", name)).write_text("x")
    assert look(run)[0] == "COMPLETED"
    assert [path.name for path in (kit(run) / "output").iterdir()] == [name], "other tasks find it by its name"


def test_a_name_in_another_code_is_known_by_its_sum(tmp_path: Path) -> None:
    run = make(tmp_path, outputs=["Müller.dat"])
    bring(run, status_json=COMPLETED, output_sha256=sums(**{"Müller.dat": "x", "other": "y"}), output__other="y")
    with open(os.fsencode(kit(run)) + b"/output/M\xfcller.dat", "w") as file:
        file.write("x")
    assert look(run)[0] == "COMPLETED"
    assert (kit(run) / "output/Müller.dat").read_text() == "x"


def test_a_folder_in_another_code(tmp_path: Path) -> None:
    run = make(tmp_path, outputs=["Größe/x.dat"])
    bring(run, status_json=COMPLETED, output_sha256=sums(**{"Größe/x.dat": "x"}))
    os.makedirs(os.fsencode(kit(run)) + b"/output/Gr\xf6\xdfe")
    with open(os.fsencode(kit(run)) + b"/output/Gr\xf6\xdfe/x.dat", "w") as file:
        file.write("x")
    assert look(run)[0] == "COMPLETED"
    assert (kit(run) / "output/Größe/x.dat").read_text() == "x"


@pytest.mark.parametrize("name", ["../../Größe", "/tmp/Größe", "a/../../Größe"])
def test_no_name_in_the_sums_leads_out_of_the_kit(tmp_path: Path, name: str) -> None:
    run = make(tmp_path)
    bring(
        run, status_json=COMPLETED, output__OUTCAR="x", output__other="y", output_sha256=sums(OUTCAR="x", **{name: "y"})
    )
    assert look(run)[0] == "COMPLETED"
    assert (kit(run) / "output/other").read_text() == "y"
    assert [path for path in tmp_path.rglob("*") if "Gr" in path.name] == []


def test_names_that_differ_in_case_are_two_files(tmp_path: Path) -> None:
    run = make(tmp_path, "echo 1 > Co.dat; echo 2 > CO.dat", outputs=["Co.dat", "CO.dat"])
    assert execute(kit(run)).returncode == 0
    assert look(run)[0] == "COMPLETED"


@given(st.lists(st.text("aäéñ日本", min_size=1, max_size=6), unique_by=lambda n: unicodedata.normalize("NFC", n)))
def test_names_are_matched_whatever_has_become_of_them(names: list[str]) -> None:
    listed = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    spoilt = {name.encode().decode("cp437"): sum_ for name, sum_ in listed.items()}
    apart = {unicodedata.normalize("NFD", name): "" for name in names}
    assert sorted(match_names(names, listed, spoilt).values()) == sorted(names)
    assert sorted(match_names(names, {}, apart).values()) == sorted(names)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("  ./a b", "a b"),
        (" *a", "a"),
        ("  ./a\r", "a"),
        ("  ./M\udcfcller", "M\udcfcller"),
    ],
)
def test_lines_of_sums(tmp_path: Path, line: str, name: str) -> None:
    (tmp_path / "output.sha256").write_bytes(("\ufeff" + "AB" * 32 + line + "\n").encode(errors="surrogateescape"))
    assert read_sums(tmp_path) == {name: "ab" * 32}
    (tmp_path / "output.sha256").write_bytes(b"\\" + b"ab" * 32 + rb"  ./a\nb\\c" + b"\n")
    assert read_sums(tmp_path) == {"a\nb\\c": "ab" * 32}


# -- nearly right ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("done.txt", 'there is "done.txt": rename it to "done"'),
        ("Output/OUTCAR", 'there is "Output": rename it to "output"'),
        ("outputs/OUTCAR", 'there is "outputs": rename it to "output"'),
        ("status.json.txt", 'there is "status.json.txt": rename it to "status.json"'),
        ("results.zip", 'have it taken in with run.import_kits("'),
        ("back.tar.gz", 'have it taken in with run.import_kits("'),
        ("0.a.1/MANIFEST.json", 'move what is in "0.a.1" one level up'),
    ],
)
def test_what_is_nearly_right_is_named_with_what_to_do(tmp_path: Path, name: str, says: str) -> None:
    run = make(tmp_path)
    path = kit(run) / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    status, reason = look(run)
    assert status == "SUBMITTED"
    assert says in reason


def test_a_word_about_the_end_that_is_nearly_right(tmp_path: Path) -> None:
    run = make(tmp_path, outputs=[])
    bring(run, output__x="x", done_txt="")
    status, reason = look(run)
    assert status == "SUBMITTED"
    assert 'there is "done.txt": rename it to "done"' in reason
    (kit(run) / "done.txt").rename(kit(run) / "done")
    assert look(run)[0] == "COMPLETED"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("output/OUTCAR", "move what is in output/output/ into output/"),
        ("outcar", "there is output/outcar; rename it to OUTCAR"),
        ("OUTCAR.txt", "there is output/OUTCAR.txt; rename it to OUTCAR"),
    ],
)
def test_an_expected_output_that_lies_elsewhere(tmp_path: Path, name: str, says: str) -> None:
    run = make(tmp_path)
    path = kit(run) / "output" / name
    path.parent.mkdir(parents=True)
    path.write_text("x")
    assert says in look(run)[1]


def test_howto_tells_the_try_and_that_a_kit_is_over(tmp_path: Path) -> None:
    run = make(tmp_path, retries=2)
    howto = kit(run) / "HOWTO.txt"
    assert "This is try 1 of 3." in howto.read_text()
    bring(run, output__OUTCAR="x", status_json='{"status": "FAILED", "exit_code": 3}')
    look(run)
    assert howto.read_text().startswith("THIS KIT IS OVER: it failed: exit code 3.\n")
    assert 'run.take_late("a")' in howto.read_text().replace("'", '"')
    second = kit(run).parent / "0.a.2"
    assert "This is try 2 of 3." in (second / "HOWTO.txt").read_text()
    assert execute(second).returncode == 0
    assert look(run)[0] == "COMPLETED"
    assert (second / "HOWTO.txt").read_text().startswith("THIS KIT IS OVER: its results were taken.\n")


def test_a_result_that_cannot_be_used_closes_the_kit_as_well(tmp_path: Path) -> None:
    run = make(tmp_path)
    bring(run, output__OUTCAR="x", output__result_json="{,}", done="")
    status, reason = look(run)
    assert status == "FAILED"
    assert "result.json cannot be used" in reason
    assert (kit(run) / "HOWTO.txt").read_text().startswith("THIS KIT IS OVER: it failed: result.json cannot be used")


# -- what a file may say --------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**380), 10**380)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["COMPLETED", "FAILED", "RUNNING"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
statuses = st.binary(max_size=60) | st.one_of(
    json_values,
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("status", "token", "exit_code", "sums", "host", "started_at"), json_values),
    ),
).map(lambda value: json.dumps(value).encode())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> ms.Run:
    return make(tmp_path_factory.mktemp("shared"))


@given(statuses, st.binary(max_size=200) | st.none())
def test_any_content_is_that_attempts_own_trouble(shared: ms.Run, status: bytes, listed: bytes | None) -> None:
    directory = bring(shared, output__OUTCAR="x", status_json=status)
    (directory / "output.sha256").unlink(missing_ok=True)
    if listed is not None:
        bring(shared, output_sha256=listed)
    came = kit_results.look(directory, "ms-1", ["OUTCAR"], kit_sums.Sums(), time.time())
    code = came.ending.exit_code
    assert code is None or -255 <= code <= 255
    if came.problem is not None:
        assert came.problem.text


@pytest.mark.parametrize(
    "status",
    [
        '{"status": "FAILED", "exit_code": 1e30}',
        '{"status": "FAILED", "exit_code": ' + "9" * 40 + "}",
        '{"status": "FAILED", "exit_code": [[]]}',
        '{"status": "FAILED", "exit_code": true, "host": 3}',
    ],
)
def test_an_exit_code_that_makes_no_sense_is_none(tmp_path: Path, status: str) -> None:
    run = make(tmp_path)
    bring(run, output__OUTCAR="x", status_json=status)
    assert look(run) == ("FAILED", "status.json says FAILED")


@pytest.mark.parametrize("status", ["[" * 5000, '{"status": ["COMPLETED"]}', '{"status": {}}', '{"token": 5}', "null"])
def test_a_status_of_any_shape_waits(tmp_path: Path, status: str) -> None:
    run = make(tmp_path)
    bring(run, output__OUTCAR="x", status_json=status)
    status, reason = look(run)
    assert status == "SUBMITTED"
    assert "status.json" in reason


# -- large files ----------------------------------------------------------------------------------


@pytest.fixture
def small_looks(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Have every file be too large to be read in a look, and tell which were handed to a process."""
    monkeypatch.setattr(kit_sums.Sums.__init__, "__defaults__", (0,))
    handed: list[list[str]] = []
    begin = kit_sums._start

    def start(directory: Path, names: list[str]) -> None:
        handed.append(names)
        begin(directory, names)

    monkeypatch.setattr(kit_sums, "_start", start)
    return handed


def test_sums_of_large_files_are_made_apart(tmp_path: Path, small_looks: list[list[str]]) -> None:
    run = make(tmp_path)
    assert execute(kit(run)).returncode == 0
    report = run.step()
    assert (report.completed, report.waits_for) == (0, "work")
    assert "the SHA-256 of output/OUTCAR" in str(run.tasks.loc["0.a", "reason"])
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    noted = json.loads((kit(run) / ".matterstack/sums.json").read_text())
    assert noted["OUTCAR"][1] == hashlib.sha256(b"e\n").hexdigest()


def test_a_large_file_that_differs_is_found_out(tmp_path: Path, small_looks: list[list[str]]) -> None:
    run = make(tmp_path)
    bring(run, status_json=COMPLETED, output_sha256=sums(OUTCAR="e"), output__OUTCAR="f")
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    assert "its SHA-256 differs" in str(run.tasks.loc["0.a", "reason"])


def test_a_step_does_not_read_what_is_huge(tmp_path: Path) -> None:
    """A terabyte without a byte in it: whoever read it under the run's lock would hold it for an hour."""
    run = make(tmp_path, outputs=[])
    bring(run, status_json=COMPLETED, output_sha256="0" * 64 + "  ./huge\n", output__small="x")
    with open(kit(run) / "output/huge", "wb") as file:
        file.truncate(1 << 40)
    assert run.step().completed == 0
    assert "the SHA-256 of output/huge is being made" in str(run.tasks.loc["0.a", "reason"])
    (kit(run) / "output/huge").unlink()  # the process that reads it sees that, and ends


@pytest.mark.parametrize(
    "notes", [b"", b"[]", b"[" * 5000, b'{"OUTCAR": 5}', b'{"OUTCAR": [1, 2, 3]}', b'{"OUTCAR": ["", null, ""]}']
)
def test_notes_of_sums_that_make_no_sense_are_made_anew(
    tmp_path: Path, small_looks: list[list[str]], notes: bytes
) -> None:
    run = make(tmp_path)
    assert execute(kit(run)).returncode == 0
    (kit(run) / ".matterstack/sums.json").write_bytes(notes)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


def test_of_processes_that_make_sums_of_a_kit_one_works(tmp_path: Path) -> None:
    import fcntl

    run = make(tmp_path)
    assert execute(kit(run)).returncode == 0
    lock = kit(run) / ".matterstack/sums.lock"
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        program = [sys.executable, "-I", "-S", "-c"]
        code = f"import runpy; runpy.run_path({kit_sums.sum_files.__file__!r})['main']({str(kit(run))!r}, ['OUTCAR'])"
        subprocess.run([*program, code], check=True, timeout=60)
        assert not (kit(run) / ".matterstack/sums.json").exists()
    subprocess.run([*program, code], check=True, timeout=60)
    assert (kit(run) / ".matterstack/sums.json").exists()


def test_a_fifo_in_place_of_the_lock_holds_no_process_up(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert execute(kit(run)).returncode == 0
    os.mkfifo(kit(run) / ".matterstack/sums.lock")
    code = f"import runpy; runpy.run_path({kit_sums.sum_files.__file__!r})['main']({str(kit(run))!r}, ['OUTCAR'])"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, timeout=60)
    assert (kit(run) / ".matterstack/sums.json").exists()


@pytest.mark.parametrize("tamper", [lambda path: path.symlink_to("/etc/hostname"), os.mkfifo])
def test_what_is_no_plain_file_is_not_summed(
    tmp_path: Path, small_looks: list[list[str]], tamper: Callable[[Path], None]
) -> None:
    run = make(tmp_path)
    bring(run, status_json=COMPLETED, output__x="x", output_sha256=sums(OUTCAR="e"))
    tamper(kit(run) / "output/OUTCAR")
    assert look(run)[0] == "SUBMITTED"
    assert small_looks == []
