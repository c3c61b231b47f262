"""The people of a night: they answer late, wrongly and twice, carry kits away and bring them back when they like."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from kit_lab import execute, pack

import matterstack as ms
from matterstack.errors import AnswerConflictError, AnswerRefusedError, KitError, MatterstackError, RunStatusError
from matterstack.orchestration.requests import Request

INSTRUMENT = Path(__file__).with_name("instrument.py")
MOODS = ("good", "good", "wrong", "liar", "late", "silent", "failing")


class People:
    """They answer requests and carry kits, of whatever runs they are shown.

    Parameters
    ----------
    place : pathlib.Path
        Where the kits are carried to.
    dice : random.Random

    Attributes
    ----------
    given : dict
        By token, the answer that was taken: nothing else may come of its request.
    left : dict
        By token, answers that were left in its folder, or may have been kept: one of these may have been taken.
    counted : Counter
        What they did.
    """

    def __init__(self, place: Path, dice: random.Random) -> None:
        self.place, self.dice = place, dice
        self.given: dict[str, Any] = {}
        self.left: dict[str, list[Any]] = defaultdict(list)
        self.counted: Counter[str] = Counter()
        self._trips: list[tuple[str, Path]] = []  # the run's id, and the folder of its kits
        self._carried: set[tuple[str, str]] = set()

    def answer(self, run: ms.Run, *, right: bool = False) -> None:
        """Answer what a run asks: somehow, or rightly."""
        for request in run.inbox():
            if request.operator_kind != "human" or not (right or self.dice.random() < 0.5):
                continue
            if not request.token:
                self._decide(run, request.task_id, right=right)
                continue
            answer = {"go": self.dice.random() < 0.5, "n": self.dice.randrange(1000)}
            how = "right" if right else self.dice.choice(["right", "file", "half", "wrong", "twice"])
            self.counted[f"answers: {how}"] += 1
            match how:
                case "file":
                    self.left[request.token].append(answer)
                    (request.directory / "response.json").write_text(json.dumps(answer))
                case "half":
                    (request.directory / "response.json").write_text(json.dumps(answer)[:-3])
                case "wrong":
                    assert not self._respond(run, request, {"go": "maybe"}), "an answer against its schema was taken"
                case "twice":
                    self._respond(run, request, answer)
                    self._respond(run, request, {**answer, "n": -1})
                case _:
                    self._respond(run, request, answer)

    def _respond(self, run: ms.Run, request: Request, answer: Any) -> bool:
        """Answer from a cell; return whether the answer was taken."""
        try:
            run.respond(request.task_id, answer, iteration=request.iteration, attempt=request.attempt)
        except (AnswerRefusedError, AnswerConflictError, RunStatusError):
            return False
        except MatterstackError:
            self.left[request.token].append(answer)
            raise
        assert request.token not in self.given, f"a second answer to {request.name} was taken"
        self.given[request.token] = answer
        return True

    def _decide(self, run: ms.Run, task_id: str, *, right: bool) -> None:
        mended = {"decision": "retry", "files": {"INCAR": "fine\n"}}
        decision = mended if right else self.dice.choice([mended, {"decision": "retry"}, {"decision": "go"}])
        self.counted[f"decisions: {'mended' if decision is mended else decision['decision']}"] += 1
        with contextlib.suppress(AnswerRefusedError, AnswerConflictError, RunStatusError):
            run.respond(task_id, decision)

    # -- kits -----------------------------------------------------------------------------

    def take_kits(self, run: ms.Run, *, right: bool = False) -> None:
        """Carry away what waits to be, and run there what nobody has run yet."""
        self.place.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="trip-", dir=self.place))  # one that failed leaves its own
        with contextlib.suppress(RunStatusError):  # none waits
            run.export_kits(folder / "kits.zip")
            away = folder / "away"
            with zipfile.ZipFile(folder / "kits.zip") as archive:
                archive.extractall(away)
            for kit in sorted(away.iterdir()):
                if (run.run_id, kit.name) in self._carried:
                    shutil.rmtree(kit)
                elif right or self.dice.random() < 0.7:
                    self._carried.add((run.run_id, kit.name))
                    assert execute(kit).returncode == 0
            self._trips.append((run.run_id, away))
        self.counted["kits carried away"] += 1

    def bring_kits(self, run: ms.Run, *, right: bool = False) -> None:
        """Bring back what was carried away, in an archive that may be cut off, or comes twice."""
        for run_id, away in list(self._trips):
            if run_id != run.run_id or not any(away.iterdir()) or not (right or self.dice.random() < 0.5):
                continue
            back = pack(away, away.with_name("back.zip"))
            if not right and self.dice.random() < 0.2:
                half = back.with_name("half.zip")
                half.write_bytes(back.read_bytes()[:-200])
                self.counted["kits cut off"] += 1
                try:
                    run.import_kits(half)
                except KitError:
                    continue
                raise AssertionError("half an archive was taken")
            run.import_kits(back)
            self.counted["kits brought back"] += 1
            if right or self.dice.random() < 0.7:  # else it comes again
                self._trips.remove((run_id, away))


class Instruments:
    """An instrument for each run that has experiments; each is of some mood, and dies now and then."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self._running: dict[Path, subprocess.Popen[bytes]] = {}
        self._moods: dict[Path, str] = {}

    def attend(self, path: Path, mood: str | None = None) -> None:
        """Have an instrument look at a run, of any mood or of a given one; one that does is left to it."""
        old = self._running.get(path)
        if old is not None and old.poll() is None and mood in (None, self._moods[path]):
            return
        if old is not None:
            self._end(old)
        self._moods[path] = mood or self.dice.choice(MOODS)
        words = [str(path / "operators/xrd"), "--mood", self._moods[path], "--count", "2"]
        # It may die with the disk that it writes to; what it says then is not of interest.
        self._running[path] = subprocess.Popen([sys.executable, str(INSTRUMENT), *words], stderr=subprocess.DEVNULL)

    def kill_one(self) -> int:
        """Kill one; return how many were killed."""
        for path in self.dice.sample(sorted(self._running), min(1, len(self._running))):
            self._end(self._running.pop(path))
            return 1
        return 0

    def close(self) -> None:
        """End all."""
        for process in self._running.values():
            self._end(process)
        self._running.clear()

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait(timeout=30)
