"""A night: twenty runs of all operators in two workspaces, stepped by daemons, while everything fails that can.

Daemons, workers, runners, instruments, slurmctld, sshd, and workers and scheduler of Dask are killed, and started again
later; a disk is full for a while; directories of runs are moved away and back; a notebook steps a run beside the
daemon; people answer late, wrongly and twice, and carry kits. In the morning nothing fails any more, people answer, and
each run has to come to the end that its plan has. ``python tests/night.py --minutes 20`` prints its seed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).with_name("helpers")))

from dask_lab import Farm
from ledger import check_executions
from night_people import Instruments, People
from night_plans import KINDS, LICENSES, NIGHT, OF_PEOPLE, Plan, Surroundings, licenses
from slurm_lab import cluster
from small_disk import fill, mounted
from ssh_lab import server

import matterstack as ms
from matterstack import cli
from matterstack.core.states import TERMINAL_RUN
from matterstack.errors import MatterstackError, RunNotFoundError
from matterstack.operators.local.runner.processes import children

HELPERS = Path(__file__).with_name("helpers")
#: Of these the second lies on a disk that is full now and then.
WORKSPACES = ("w", "small")
#: A controller that was killed may drain its node some time after it is back; an administrator looks so often.
_RESUMED_S = 20.0
#: In the morning so long nothing has to move in any run before it is said that something is stuck.
_QUIET_S = 150.0
NOTEBOOK = """
import sys, matterstack as ms
from matterstack.errors import MatterstackError
try:
    run = ms.open_run(sys.argv[1])
    run.wait(timeout_s=float(sys.argv[2]))
except (MatterstackError, KeyboardInterrupt) as error:
    print(type(error).__name__, error)
"""
#: What is written whole is written under such a name first; it goes, unless whoever writes it is killed just then.
_OF_A_KILL = re.compile(r"^\..+\.[0-9a-f]{12}\.partial$")
#: What a daemon says that it never should.
_BAD_WORDS = re.compile(
    r"^Traceback|Exception in|has failed|without a word: with exit code|cannot be read: (?!.*(full|disk|not there))"
)


@dataclass
class Living:
    """A run of the night: where it belongs, where it is, what it is, and who signs for what it carries out."""

    home: Path
    path: Path
    kind: str
    plan: Plan
    ledger: Path
    is_over: bool = False

    @property
    def name(self) -> str:
        return f"{self.home.parents[1].name}/{self.home.name}"

    @property
    def is_moved(self) -> bool:
        return self.path != self.home

    def open(self) -> ms.Run:
        return ms.open_run(self.path)


class Daemon:
    """A daemon of some workspaces, and its log."""

    def __init__(self, base: Path, workspaces: Sequence[str], log: Path) -> None:
        self.workspaces = workspaces
        places = [str(base / "workspaces" / name) for name in workspaces]
        command = [sys.executable, "-m", "matterstack", "daemon", "--workers", "4", *places]
        with open(log, "a") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, cwd="/")


class Night:
    """Twenty runs, who steps them, and all that goes wrong.

    Parameters
    ----------
    base : pathlib.Path
        Where all of it is.
    seed : int
    kinds : sequence of str
        Of the runs.
    around : Surroundings
    """

    def __init__(self, base: Path, seed: int, kinds: Sequence[str], around: Surroundings, *, can_fill: bool) -> None:
        self.base, self.around, self.can_fill = base, around, can_fill
        self.dice = random.Random(seed)
        self.people = People(base / "away", self.dice)
        self.instruments = Instruments(self.dice)
        self.runs: list[Living] = []
        self.daemons: list[Daemon] = []
        self.notebooks: list[subprocess.Popen[bytes]] = []
        self.ballast: Path | None = None
        self.later: list[tuple[float, Callable[[], None]]] = []  # what is mended when
        self.counted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.findings: list[str] = []
        self.log = base / "daemons.log"
        self._made: Counter[str] = Counter()
        for name in WORKSPACES:
            ms.set_limits(name, base_path=base, license=LICENSES)
        for kind in kinds:
            self.make(kind)
        self.wanted = Counter(one.kind for one in self.runs)

    # -- runs -----------------------------------------------------------------------------

    def make(self, kind: str) -> None:
        """Make a run of a kind, where its surroundings are there."""
        self._made[kind] += 1
        name, workspace = f"{kind}{self._made[kind]}", self.dice.choice(WORKSPACES)
        ledger = self.base / "ledgers" / workspace / name
        ledger.parent.mkdir(parents=True, exist_ok=True)
        plan = KINDS[kind](self.dice, ledger, self.around)
        if plan is None:
            return
        run = ms.initialize_run(workspace, plan.what, base_path=self.base, run_id=name, operators=plan.operators)
        self.runs.append(Living(run.path, run.path, kind, plan, ledger))

    def renew(self) -> None:
        """Make another run of the kind of each one that is over and was not followed yet."""
        going = Counter(one.kind for one in self.runs if not self.look(one))
        for kind, wanted in self.wanted.items():
            for _ in range(wanted - going[kind]):
                with contextlib.suppress(MatterstackError) if self.ballast else contextlib.nullcontext():
                    self.make(kind)

    def look(self, one: Living) -> bool:
        """Return whether a run is where its plan leads to, and stays there."""
        with contextlib.suppress(RunNotFoundError):
            one.is_over = one.is_over or one.open().status in (*TERMINAL_RUN, one.plan.ends)
        return one.is_over

    # -- what goes wrong ------------------------------------------------------------------

    def until(self, seconds: float) -> None:
        """Go through the night: something happens, then something else."""
        end, renewal = time.monotonic() + seconds, time.monotonic() + 10
        while (now := time.monotonic()) < end:
            self.attend()
            for at, mend in [item for item in self.later if item[0] <= now]:
                self.later.remove((at, mend))
                mend()
            if now > renewal:
                self.renew()
                renewal = now + 10
            self.happen(self.dice.choice(EVENTS))
            # A pause of random length is what such a night is made of; nothing is waited for.
            select.poll().poll(self.dice.uniform(50, 1200))

    def attend(self) -> None:
        """Start a daemon where none is, and instruments; note how those that ended did."""
        for daemon in list(self.daemons):
            if (code := daemon.process.poll()) is not None:
                self.daemons.remove(daemon)
                # 75: the one before was killed while it started a process, which has its lock for a moment.
                if code not in (-signal.SIGKILL, 75):
                    self.findings.append(f"a daemon ended by itself, with {code}")
        kept = {name for daemon in self.daemons for name in daemon.workspaces}
        if lacking := [name for name in WORKSPACES if name not in kept]:
            together = self.dice.random() < 0.5
            for names in [lacking] if together else [[name] for name in lacking]:
                self.daemons.append(Daemon(self.base, names, self.log))
        for one in self.runs:
            if one.kind == "experiment" and not one.is_moved and (one.path / "operators/xrd").is_dir():
                self.instruments.attend(one.path)
        self.notebooks = [process for process in self.notebooks if process.poll() is None]

    def happen(self, event: str) -> None:
        """Have something happen; what people are told then is counted."""
        try:
            done = getattr(self, f"on_{event}")()
        except MatterstackError as error:
            self.refused[type(error).__name__] += 1
        except OSError as error:
            if self.ballast is None and not any(one.is_moved for one in self.runs):
                self.findings.append(f"{event}: {type(error).__name__}: {error}")
            self.refused[type(error).__name__] += 1
        else:
            self.counted[event] += 1 if done is None else int(done)

    def pick(self, *kinds: str) -> Living | None:
        """Return one of the runs, of some kinds."""
        some = [one for one in self.runs if (not kinds or one.kind in kinds) and not (one.is_moved or one.is_over)]
        return self.dice.choice(some) if some else None

    def after(self, longest_s: float, mend: Callable[[], None]) -> None:
        """Have something mended in a while."""
        self.later.append((time.monotonic() + self.dice.uniform(1, longest_s), mend))

    def on_kill_daemon(self) -> int:
        for daemon in self.dice.sample(self.daemons, min(1, len(self.daemons))):
            daemon.process.kill()
            daemon.process.wait()
            return 1
        return 0

    def on_end_daemon(self) -> int:
        for daemon in self.dice.sample(self.daemons, min(1, len(self.daemons))):
            self.end(daemon)
            return 1
        return 0

    def end(self, daemon: Daemon) -> None:
        """End a daemon as its page says; an interpreter that has not begun yet answers SIGINT with a traceback."""
        has_begun = f"pid {daemon.process.pid} steps the runs of " in self.log.read_text()
        daemon.process.send_signal(self.dice.choice([signal.SIGTERM, signal.SIGINT]) if has_begun else signal.SIGTERM)
        try:
            code = daemon.process.wait(timeout=75)
        except subprocess.TimeoutExpired:
            daemon.process.kill()
            code = daemon.process.wait()
        # One that was told to end before it could hear of it is ended by the signal.
        if code not in (0, 75, -signal.SIGTERM, -signal.SIGINT, 130):
            self.findings.append(f"a daemon that was told to end did so with {code}")
        self.daemons.remove(daemon)

    def on_second_daemon(self) -> None:
        command = [sys.executable, "-m", "matterstack", "daemon", str(self.base / "workspaces/w")]
        first = [daemon for daemon in self.daemons if "w" in daemon.workspaces]
        # One that has just been started has no lock yet, and this one could be the first.
        if first and f"pid {first[0].process.pid} steps the runs of " in self.log.read_text():
            done = subprocess.run(command, capture_output=True, text=True, timeout=180, cwd="/", check=False)
            if done.returncode != 75:
                self.findings.append(f"a second daemon ended with {done.returncode}: {done.stderr}")

    def on_kill_worker(self) -> int:
        keepers = [pid for daemon in self.daemons for pid in children(daemon.process.pid)]
        workers = [pid for keeper in keepers for pid in children(keeper)]
        return sum(kill(pid) for pid in self.dice.sample(workers, min(len(workers), self.dice.randint(1, 3))))

    def runners(self) -> list[int]:
        """Return the runners of all runs that are not over."""
        return [pid for one in self.runs if not one.is_over for pid in runners(one.path)]

    def on_kill_runner(self) -> int:
        found = self.runners()
        return sum(kill(pid) for pid in self.dice.sample(found, min(1, len(found))))

    def on_kill_server(self) -> int:
        servers = [pid for runner in self.runners() for pid in children(runner) if is_server(pid)]
        return sum(kill(pid) for pid in self.dice.sample(servers, min(2, len(servers))))

    def on_kill_instrument(self) -> int:
        return self.instruments.kill_one()

    def on_notebook(self) -> None:
        one = self.pick()
        if one is not None and len(self.notebooks) < 2:
            command = [sys.executable, "-c", NOTEBOOK, str(one.path), str(self.dice.uniform(1, 8))]
            with open(self.base / "notebooks.log", "a") as log:
                self.notebooks.append(subprocess.Popen(command, stdout=log, stderr=log))

    def on_stop_notebook(self) -> int:
        for process in self.notebooks[:1]:
            process.send_signal(self.dice.choice([signal.SIGINT, signal.SIGKILL]))
            return 1
        return 0

    def on_move(self) -> int:
        one = self.pick()
        if one is None or one.kind == "experiment":
            return 0
        one.path = one.path.rename(one.home.parents[1] / f".away-{one.home.name}")  # on the same disk

        def back() -> None:
            one.path = one.path.rename(one.home)

        self.after(15, back)
        return 1

    def on_fill(self) -> int:
        if not self.can_fill or self.ballast is not None:
            return 0
        self.ballast = fill(self.base / "workspaces/small", self.dice.choice([0, 0, 4096, 100_000]))
        self.after(20, self.make_room)
        return 1

    def make_room(self) -> None:
        if self.ballast is not None:
            self.ballast.unlink()
            self.ballast = None

    def on_kill_slurmctld(self) -> int:
        slurm = self.around.slurm
        if slurm is None or any(mend == slurm.start for _, mend in self.later):
            return 0
        slurm.kill("slurmctld")
        self.after(20, slurm.start)
        return 1

    def on_kill_sshd(self) -> int:
        link = self.around.link
        if link is None or any(mend == link.start for _, mend in self.later):
            return 0
        link.kill()
        self.after(15, link.start)
        return 1

    def on_cut_link(self) -> int:
        if self.around.link is None:
            return 0
        return sum(kill(pid) for pid in self.around.link.masters())

    def on_kill_dask(self) -> int:
        farm = self.around.farm
        if farm is None or any(mend == farm.mend for _, mend in self.later):
            return 0
        farm.kill(self.dice.choice([farm.scheduler, *farm.workers]))
        self.after(10, farm.mend)
        return 1

    def on_answer(self) -> None:
        if (one := self.pick("person", "asks")) is not None:
            self.people.answer(one.open())

    def on_take_kits(self) -> None:
        if (one := self.pick("kits")) is not None:
            self.people.take_kits(one.open())

    def on_bring_kits(self) -> None:
        if (one := self.pick("kits")) is not None:
            self.people.bring_kits(one.open())

    # -- the morning ----------------------------------------------------------------------

    def morning(self, quiet_s: float) -> None:
        """Mend all, answer all, wait until nothing moves any more, and look at what has become of it."""
        for process in self.notebooks:
            process.wait(timeout=180)
        for _, mend in self.later:
            mend()
        self.later.clear()
        if self.around.slurm is not None:  # what was killed with its controller holds places of the node for good
            self.around.slurm.start("slurmd")
        self.settle(quiet_s)
        for one in self.runs:
            run = one.open()
            if run.status is ms.RunStatus.PAUSED and one.plan.ends is not ms.RunStatus.PAUSED:
                said = run.explain()
                self.counted["paused in the morning"] += 1
                if not any("run.resume()" in blocker.remedy for blocker in said):
                    self.findings.append(f"{one.name} is paused, and does not say what helps: {said}")
                run.resume()
                one.is_over = False
        self.settle(quiet_s)
        for daemon in list(self.daemons):
            self.end(daemon)
        self.instruments.close()
        for one in self.runs:
            self.check(one)
        for name in WORKSPACES:
            self.check_workspace(name)
        self.check_processes()
        for line in self.log.read_text().splitlines():
            if _BAD_WORDS.search(line):
                self.findings.append(f"a daemon says: {line}")

    def settle(self, quiet_s: float) -> None:
        """Let people do rightly what is asked, until all runs are over, or nothing moves for long."""
        seen, moved_at, resumed_at = -1, time.monotonic(), time.monotonic()
        while True:
            self.attend()
            if self.around.slurm is not None and time.monotonic() - max(moved_at, resumed_at) > _RESUMED_S:
                self.around.slurm.start()
                resumed_at = time.monotonic()
            going = [one for one in self.runs if not self.look(one)]
            moved = sum(one.open().store.last_event() for one in going) + 1000 * len(self.runs) - 1000 * len(going)
            if moved != seen:
                seen, moved_at = moved, time.monotonic()
            if not going or time.monotonic() - moved_at > quiet_s:
                return
            for one in going:
                with contextlib.suppress(MatterstackError):  # a daemon steps it just now
                    self.do_rightly(one)
            select.poll().poll(500)

    def do_rightly(self, one: Living) -> None:
        run = one.open()
        if one.kind in ("person", "asks"):
            self.people.answer(run, right=True)
        elif one.kind == "kits":
            self.people.bring_kits(run, right=True)
            self.people.take_kits(run, right=True)
        elif one.kind == "experiment":
            self.instruments.attend(one.path, "good")

    def check(self, one: Living) -> None:
        """Look at what has become of a run."""
        run = one.open()
        with self.finding(one.name):
            if run.status is not one.plan.ends:
                raise AssertionError(f"it is {run.status}, not {one.plan.ends}: {run.explain()}")
            if run.status is ms.RunStatus.PAUSED:
                assert any("no more luck" in blocker.why and blocker.remedy for blocker in run.explain())
        with self.finding(one.name):
            check_executions(run, one.ledger, besides=OF_PEOPLE)
        with self.finding(one.name):
            assert run.status is not ms.RunStatus.COMPLETED or one.plan.holds(run), "it has not given what it should"
            for token, taken in run.attempts.set_index("token")["task_id"].items():
                self.check_answer(run, str(token), str(taken))
        with contextlib.redirect_stdout(io.StringIO()) as said:
            wrong = cli.main(["check", str(one.path)])
        if wrong:
            self.findings.append(f"{one.name}: matterstack check: {said.getvalue()}")
        for path in one.path.rglob(".*"):
            if _OF_A_KILL.search(path.name):
                self.counted["halves of files that kills left"] += 1
            elif path.name.endswith((".partial", ".new", ".tmp")):
                self.findings.append(f"{one.name}: a stray file, {path.relative_to(one.path)}")

    def check_answer(self, run: ms.Run, token: str, task_id: str) -> None:
        if token in self.people.given or token in self.people.left:
            attempt = run.attempts[run.attempts["token"] == token].iloc[0]
            allowed = [self.people.given[token]] if token in self.people.given else self.people.left[token]
            assert attempt["status"] != "COMPLETED" or run.value(task_id) in allowed, (
                f"{task_id}: {run.value(task_id)} is none of the answers {allowed}"
            )
            assert attempt["status"] == "COMPLETED" or token not in self.people.given, (
                f"{task_id}: its answer was taken, and it is {attempt['status']}"
            )

    def check_workspace(self, name: str) -> None:
        """Look at the ledger of limits, and for names that should not be there."""
        held = ms.limits(name, self.base)
        if held["held"].sum():
            self.findings.append(f"{name}: something is held still: {held.to_dict('records')}")
        place = self.base / "workspaces" / name
        known = {"runs", "cache", "limits.sqlite", "limits.sqlite-journal", f".daemon-{os.getuid()}.lock"}
        stray = [path.name for path in place.iterdir() if path.name not in known]
        there = {one.home.name for one in self.runs}
        stray += [path.name for path in (place / "runs").iterdir() if path.name not in there]
        if stray:
            self.findings.append(f"{name}: stray files, {stray}")
        most = at_once(licenses(self.base / "ledgers" / name / "any"))
        if most > LICENSES:
            self.findings.append(f"{name}: {most} licenses were used at once, of {LICENSES}")

    def check_processes(self) -> None:
        """Look for processes that have to do with the runs still, and files in the temporary folder."""
        until = time.monotonic() + 180
        while left := [found for found in processes(str(self.base)) if found]:
            if time.monotonic() > until:
                self.findings.append(f"processes are left: {left}")
                return
            select.poll().poll(500)
        if stray := [path.name for path in (self.base / "tmp").iterdir() if path.name != "dask-scratch-space"]:
            self.findings.append(f"files are left in the temporary folder: {stray}")

    def close(self) -> None:
        """End what is left of it."""
        self.instruments.close()
        for process in [*self.notebooks, *(daemon.process for daemon in self.daemons)]:
            process.kill()
            process.wait()
        for one in self.runs:
            with contextlib.suppress(MatterstackError):
                one.open().cancel().step()

    @contextlib.contextmanager
    def finding(self, name: str) -> Iterator[None]:
        """Keep what is wrong, and go on."""
        try:
            yield
        except AssertionError as error:
            self.findings.append(f"{name}: {error}")

    def report(self) -> str:
        """Return what happened, and what is wrong."""
        kinds = Counter(one.kind for one in self.runs)
        lines = [f"{len(self.runs)} runs: {', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))}"]
        attempts = sum(len(one.open().attempts) for one in self.runs)
        lines.append(f"{attempts} attempts")
        for said, counter in (("happened", self.counted), ("people", self.people.counted), ("told", self.refused)):
            lines.append(f"{said}: {', '.join(f'{name} {n}' for name, n in sorted(counter.items()))}")
        return "\n".join([*lines, *(f"FOUND {found}" for found in self.findings)])


EVENTS = [
    *["kill_daemon"] * 3, "end_daemon", "second_daemon", *["kill_worker"] * 6, *["kill_runner"] * 4,
    *["kill_server"] * 2, "kill_instrument", *["notebook"] * 3, *["stop_notebook"] * 2, *["move"] * 2,
    *["fill"] * 2, "kill_slurmctld", "kill_sshd", *["cut_link"] * 2, *["kill_dask"] * 2, *["answer"] * 6,
    *["take_kits"] * 2, *["bring_kits"] * 4,
]  # fmt: skip


def kill(pid: int) -> int:
    """Kill a process; return how many were killed."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return 1
    return 0


def runners(path: Path) -> list[int]:
    """Return the process of the run's runner, if it lives."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        pid = int(json.loads((path / "operators/local/runner.lock").read_text())["pid"])
        if b"import runner" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return [pid]
    return []


def is_server(pid: int) -> bool:
    """Return whether a child of a runner is a warm server, and no command."""
    with contextlib.suppress(OSError):
        return b"\0MATTERSTACK_ROOM=" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    return False


def at_once(shared: Path) -> int:
    """Return how many held a license at once, of those that came to their end."""
    lines = [line.split() for line in shared.read_text().splitlines()] if shared.exists() else []
    ended = {token for word, token in lines if word == "out"}
    held = most = 0
    for word, token in lines:
        if token in ended:
            held += 1 if word == "in" else -1
            most = max(most, held)
    return most


def processes(base: str) -> Iterator[str]:
    """Yield what processes there are whose command or folder is below a place, or which carry out attempts there."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if place.name != str(os.getpid()) and (base in words or os.readlink(place / "cwd").startswith(base)):
                yield f"{place.name} {words[:200]}"


@contextlib.contextmanager
def surroundings(base: Path, *, bare: bool) -> Iterator[Surroundings]:
    """Start what there is on this machine; where it is bare, nothing."""
    around = Surroundings()
    with contextlib.ExitStack() as stack:
        if not bare:
            with contextlib.suppress(pytest.skip.Exception):
                around.slurm = stack.enter_context(cluster(27517, SLURM_LAB_CPUS="8"))
                around.link = stack.enter_context(server())
            (base / "dask").mkdir()
            around.farm = Farm(base / "dask")
            stack.callback(around.farm.close)
        yield around


def night(
    base: Path,
    seconds: float,
    seed: int,
    kinds: Sequence[str] = NIGHT,
    *,
    bare: bool = False,
    quiet_s: float = _QUIET_S,
    keep: Path | None = None,
) -> list[str]:
    """Have a night of so many seconds, and its morning; return what was found, and keep what is left where it is."""
    for name in ("tmp", "away", "workspaces/small"):
        (base / name).mkdir(parents=True)
    more = os.pathsep.join([str(HELPERS), *filter(None, [os.environ.get("PYTHONPATH")])])
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("XDG_STATE_HOME", str(base / "state"))
        patch.setenv("PYTHONPATH", more)  # of the campaigns
        lab = Path(tempfile.mkdtemp(prefix="ms-night-"))
        stack.callback(shutil.rmtree, lab, ignore_errors=True)
        around = stack.enter_context(surroundings(lab, bare=bare))
        why_not = stack.enter_context(mounted(base / "workspaces/small", "200m"))
        patch.setenv("TMPDIR", str(base / "tmp"))
        it = Night(base, seed, kinds, around, can_fill=not why_not)
        stack.callback(it.close)
        it.until(seconds)
        it.morning(quiet_s)
        print(it.report(), flush=True)
        if it.findings and keep:
            shutil.copytree(base, keep, symlinks=True, ignore_dangling_symlinks=True)
        return it.findings


def main() -> int:
    """Have nights until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--keep", type=Path, help="a folder for what is left of it, to look at")
    given = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # in the background it is ignored, by all its children, too
    seconds = 60 * (60 * given.hours + given.minutes) or 8 * 3600.0
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ms-night-") as directory:
        found = night(Path(directory), seconds, given.seed, keep=given.keep)
    print("each run came to its end; nothing doubled, lost or stuck" if not found else f"{len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
