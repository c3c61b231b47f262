"""The power goes at any instant: the run opens, what was committed is there, nothing runs twice at once, or is stuck.

A run is made and stepped on a disk that remembers what was synced (`lying_disk`). Each instant between two changes of
that disk is then looked at as the machine finds it after a power cut, under each model of what survives, and the run
goes on from there on a good disk. ``MATTERSTACK_EVERY_CUT=1`` looks at every instant instead of a sample,
``=3`` at every third.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from crashes import ENDED, in_child
from ledger import starts
from lying_disk import HIDDEN, Change, Mounted, Tree, lying_disk
from waiting import wait_for

import matterstack as ms
from matterstack.errors import RunNotFoundError, RunStatusError
from tests.helpers.runners import kill_runner

EVERY = int(os.environ.get("MATTERSTACK_EVERY_CUT", "0"))
SAMPLE = 2
#: What survives, and where names are kept in the order of a journal.
CUTS = ["strict", "strict-ordered", "names", "data", "torn", "torn-ordered"]
RUN = Path("workspaces/w/runs/r")
#: Signs the ledger, which is on a good disk, and the changes of the disk itself, where that is mounted.
SIGNED = (
    'echo "start $MATTERSTACK_TOKEN" >> "$LEDGER"; true 2>/dev/null >"$DISK/note-start $MATTERSTACK_TOKEN"; {command}'
)


class Place(NamedTuple):
    """Where the witnesses of a run are."""

    ledger: Path
    disk: Path
    seed: Path

    def task(self, task_id: str, command: str, **settings: Any) -> ms.Task:
        env = {"LEDGER": str(self.ledger), "DISK": str(self.disk / HIDDEN)}
        return ms.Task(task_id, SIGNED.format(command=command), env=env, **settings)


class Doubling(ms.Campaign):
    """Two iterations: a file from outside and a text come in, go through two tasks, and out as the state."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def initial_state(self) -> Any:
        return {"round": 0, "got": []}

    def plan(self, state: Any) -> ms.Workflow | None:
        if state["round"] == 2:
            return None
        return ms.Workflow(
            [
                self.place.task(
                    "read",
                    'echo "$(cat seed.txt)$(cat text.txt)" > out.txt; sync out.txt .',
                    files={"seed.txt": self.place.seed, "text.txt": f"text {state['round']}\n"},
                    outputs=["out.txt"],
                    retries=3,
                ),
                self.place.task(
                    "tell",
                    """printf '{"got": "%s"}' "$(cat in.txt)" > result.json; sync result.json .""",
                    files={"in.txt": ms.FromTask("read", "out.txt")},
                    dependencies=["read"],
                    retries=3,
                ),
            ]
        )

    def analyze(self, state: Any, results: Mapping[str, ms.TaskResult]) -> Any:
        return {"round": state["round"] + 1, "got": [*state["got"], results["tell"].data["got"]]}


class Commands:
    """Local commands, two iterations."""

    def make(self, base: Path, place: Place) -> ms.Run:
        return ms.initialize_run("w", Doubling(place), base_path=base, run_id="r")

    def open(self, base: Path, place: Place) -> ms.Run:
        return ms.open_run(base / RUN, campaign=Doubling(place))

    def go_on(self, run: ms.Run, note: Callable[[str], None]) -> ms.RunStatus:
        for _ in run.ticks(timeout_s=60):
            tasks = run.tasks
            for name in tasks.index[tasks["status"] == "COMPLETED"]:
                note(f"done {name}")
        if run.status is ms.RunStatus.FAILED:
            # What a command left is its own to bring to disk, and here it has not: that is told, and it is done again.
            assert "read did not leave the file out.txt, or it was lost since" in repr(run.explain())
            run.retry("read")
            note("output lost")
            return run.wait(timeout_s=60)
        return run.status

    def check(self, run: ms.Run) -> None:
        assert run.campaign_state == {"round": 2, "got": ["seedtext 0", "seedtext 1"]}


class Person:
    """A request that is answered from a cell, and a command that waits for the answer."""

    def make(self, base: Path, place: Place) -> ms.Run:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        pick = ms.Task("pick", operator="human", instructions="Pick.", schema=schema)
        after = place.task("after", "cp inputs.json result.json; sync result.json .", dependencies=["pick"], retries=3)
        operators: dict[str, Any] = {"human": ms.HumanOperator(), "local": ms.LocalOperator()}
        return ms.initialize_run("w", ms.Workflow([pick, after]), base_path=base, run_id="r", operators=operators)

    def open(self, base: Path, place: Place) -> ms.Run:
        return ms.open_run(base / RUN)

    def go_on(self, run: ms.Run, note: Callable[[str], None]) -> ms.RunStatus:
        run.wait(timeout_s=30)
        if "pick" in [request.task_id for request in run.inbox()]:
            run.respond("pick", {"n": 6})
            note("answered")
        return run.wait(timeout_s=60)

    def check(self, run: ms.Run) -> None:
        assert data_of(run, "after")["pick"]["data"] == {"n": 6}


class Kit:
    """A kit that is carried away, executed, and brought home in an archive."""

    def make(self, base: Path, place: Place) -> ms.Run:
        task = ms.Task("relax", "cp start.txt result.json", operator="manual", files={"start.txt": '{"e_eV": -2}'})
        return ms.initialize_run(
            "w", ms.Workflow([task]), base_path=base, run_id="r", operators={"manual": ms.ManualHPCOperator()}
        )

    def open(self, base: Path, place: Place) -> ms.Run:
        return ms.open_run(base / RUN)

    def go_on(self, run: ms.Run, note: Callable[[str], None]) -> ms.RunStatus:
        run.wait(timeout_s=30)
        if run.status is ms.RunStatus.COMPLETED:
            return run.status
        for archive in carried(run):
            run.import_kits(archive)
            note("imported")
        return run.wait(timeout_s=60)

    def check(self, run: ms.Run) -> None:
        assert data_of(run, "relax") == {"e_eV": -2}


def data_of(run: ms.Run, task_id: str) -> Any:
    """Return the data of a task that was completed once."""
    ((text,),) = run.store.query(
        "SELECT a.data FROM attempts a JOIN tasks t ON t.id = a.task WHERE t.task_id = ? AND a.status = 'COMPLETED'",
        (task_id,),
    )
    return json.loads(text)


def carried(run: ms.Run) -> Iterator[Path]:
    """Yield an archive of kits that were executed elsewhere."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        away = Path(folder)
        with contextlib.suppress(RunStatusError):  # none waits
            run.export_kits(away / "out.zip")
            with zipfile.ZipFile(away / "out.zip") as archive:
                archive.extractall(away / "kits")
            for kit in (away / "kits").iterdir():
                subprocess.run(["/bin/sh", "submit.sh"], cwd=kit, check=True, timeout=60, capture_output=True)
            shutil.make_archive(str(away / "home"), "zip", away / "kits")
            yield away / "home.zip"


SCENARIOS = {"commands": Commands(), "person": Person(), "kit": Kit()}


class Recorded(NamedTuple):
    """An undisturbed run, as the changes of its disk."""

    place: Place
    changes: list[Change]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Recorded]:
    """Return what records a scenario once."""
    known: dict[str, Recorded] = {}

    def record(name: str) -> Recorded:
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            (folder / "seed").write_text("seed\n")
            with lying_disk(folder / "disk") as disk:
                place = Place(folder / "ledger", disk.path, folder / "seed")
                known[name] = Recorded(place, undisturbed(name, disk, place))
        return known[name]

    return record


def undisturbed(name: str, disk: Mounted, place: Place) -> list[Change]:
    scenario = SCENARIOS[name]
    run = scenario.make(disk.path, place)
    disk.say("note-made")
    assert scenario.go_on(run, lambda word: disk.say(f"note-{word}")) is ms.RunStatus.COMPLETED
    scenario.check(run)
    return disk.changes()


def instants(changes: Sequence[Change], model: str) -> list[int]:
    """Return after how many changes the power goes: all, or a sample."""
    if model == "strict":  # once where nothing more survives
        counts = [n + 1 for n, change in enumerate(changes) if change[0] in ("sync", "note")]
    else:
        counts = [n + 1 for n, change in enumerate(changes)]
    if EVERY:
        return counts[::EVERY]
    generator = random.Random(len(model))
    return sorted(generator.sample(counts, SAMPLE))


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_power_goes(recorded: Callable[[str], Recorded], tmp_path: Path, name: str, cut: str, capsys: Any) -> None:
    model, _, ordered = cut.partition("-")
    place, changes = recorded(name)
    found: Counter[str] = Counter()
    for count in instants(changes, model):
        tree = Tree.of(changes[:count], ordered=bool(ordered))
        notes = list(tree.notes)
        tree.cut(model, seed=count)
        image = tmp_path / str(count)
        image.mkdir()
        tree.write_to(image)
        place.ledger.write_text("".join(f"{note}\n" for note in notes if note.startswith("start ")))
        found += after_the_cut(name, image, place, notes)
        shutil.rmtree(image)
    if EVERY:
        with capsys.disabled():
            print(f"\n{name} {cut}: {json.dumps(found)}")


def count_runs(base: Path) -> int:
    """Return how many runs show."""
    try:
        return len(ms.runs("w", base_path=base))
    except RunNotFoundError:  # nor is there a workspace
        return 0


def after_the_cut(name: str, image: Path, place: Place, notes: Sequence[str]) -> Counter[str]:
    """Go on with what survived, to the end; return what was lost."""
    scenario = SCENARIOS[name]
    ms.trust(image)
    found = Counter(cuts=1)
    before = starts(place.ledger)
    if (image / RUN).exists():
        run = scenario.open(image, place)
    else:
        assert "made" not in notes, "a run that was made is gone"
        assert count_runs(image) == 0, "a half-made run does not show"
        found["made again"] += 1
        run = scenario.make(image, place)
    assert run.store.check() == []
    done = {note.removeprefix("done ") for note in notes if note.startswith("done ")}
    tasks = run.tasks
    assert done <= set(tasks.index[tasks["status"] == "COMPLETED"]), "what was committed is gone"
    over = set(run.attempts["token"][run.attempts["status"] == "COMPLETED"])

    again: list[str] = []
    assert scenario.go_on(run, again.append) is ms.RunStatus.COMPLETED, repr(run.explain())
    scenario.check(run)
    for word in ("answered", "imported"):
        assert not (word in notes and word in again), f"it was {word}, and that is gone"
    assert run.store.check() == []

    after = starts(place.ledger) - before
    assert max(after.values(), default=0) <= 1, "an attempt ran twice after the cut"
    assert not over & set(after), "an attempt that was over ran again"
    attempts = run.attempts
    assert set(after) <= set(attempts["token"])
    found["output lost"] += again.count("output lost")
    found["lost"] += int((attempts["status"] == "LOST").sum())
    found["failed"] += int((attempts["status"] == "FAILED").sum())
    found["executed again"] += len(before & after)
    return found


def test_a_command_that_ran_and_left_no_trace_is_lost_and_not_begun_again(tmp_path: Path) -> None:
    """The store knows that it ran; its claim, its output and its directory were not on disk when the power went."""
    ledger = tmp_path / "ledger"
    flow = ms.Workflow([ms.Task("long", f"echo ran >> {ledger}; sleep 600", retries=0)])
    run = ms.initialize_run("w", flow, base_path=tmp_path, run_id="r")
    for _ in run.ticks(timeout_s=60):
        if list(run.attempts["status"]) == ["RUNNING"]:
            break
    local = run.path / "operators/local"
    (command,) = (int(external_id.partition(":")[0]) for external_id in run.attempts["external_id"])
    kill_runner(run)
    os.killpg(command, signal.SIGKILL)
    (local / "journal.jsonl").unlink()
    shutil.rmtree(local / "0.long.1")
    again = ms.open_run(run.path)
    assert again.wait(timeout_s=60) is ms.RunStatus.FAILED
    assert list(again.attempts["status"]) == ["LOST"]
    assert ledger.read_text() == "ran\n"


@pytest.mark.parametrize("model", ["strict", "names"])
def test_the_power_goes_after_a_command_ended_that_nobody_watched(tmp_path: Path, model: str) -> None:
    """Its end is not safer than its result: it is found with the result that it left, or not at all."""
    left = tmp_path / "left"
    command = f"""until [ -e {left} ]; do sleep 0.05; done; printf '{{"n": 6}}' > result.json"""
    with lying_disk(tmp_path / "disk") as disk:
        flow = ms.Workflow([ms.Task("alone", command, retries=1)])

        def submit() -> None:
            ms.initialize_run("w", flow, base_path=disk.path, run_id="r").step()

        assert in_child(submit) == ENDED
        left.touch()
        local = disk.path / RUN / "operators/local"
        runner = json.loads((local / "runner.lock").read_text())["pid"]
        wait_for(lambda: not Path(f"/proc/{runner}").exists())  # it leaves when all that it knows is on disk
        assert '["end"' in (local / "journal.jsonl").read_text()
        changes = disk.changes()
    (end,) = (n for n, change in enumerate(changes) if change[0] == "write" and b'["end"' in (change[1][2] or b""))
    for count in range(end, len(changes) + 1):
        tree = Tree.of(changes[:count])
        tree.cut(model)
        image = tmp_path / str(count)
        image.mkdir()
        tree.write_to(image)
        ms.trust(image)
        run = ms.open_run(image / RUN)
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
        assert data_of(run, "alone") == {"n": 6}
        if count == len(changes):
            assert list(run.attempts["attempt"]) == [1], "it was all on disk in the end"
