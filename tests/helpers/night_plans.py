"""The runs of a night: one of each kind of work, and what each has to become."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dask_lab import Farm
from ledger import witnessed
from slurm_lab import Cluster
from ssh_lab import Server

import matterstack as ms
from matterstack.optimizers import Real, Sobol, Space

#: Whatever is killed, a task is tried again.
_RETRIES = 60
#: Operators whose attempts people or instruments carry out.
OF_PEOPLE = ("human", "xrd")
LICENSES = 2
GATE = {
    "type": "object",
    "properties": {"go": {"type": "boolean"}, "n": {"type": "integer"}},
    "required": ["go", "n"],
    "additionalProperties": False,
}
PARAMETERS = {"type": "object", "properties": {"symbol": {"enum": ["Cu", "Fe", "Al"]}}, "required": ["symbol"]}


@dataclass
class Surroundings:
    """What there is beside this machine: a Slurm, a host behind ssh, a Dask cluster; None where there is none."""

    slurm: Cluster | None = None
    link: Server | None = None
    farm: Farm | None = None


@dataclass
class Plan:
    """A run to be: what it does, by which operators, and how it ends."""

    what: ms.Workflow | ms.Campaign
    operators: Mapping[str, Any] = field(default_factory=lambda: {"local": ms.LocalOperator(max_active=3)})
    ends: ms.RunStatus = ms.RunStatus.COMPLETED
    #: What it has to have given, beside that each task was carried out once.
    holds: Callable[[ms.Run], bool] = lambda run: True


def called(kind: str, ledger: str) -> int:
    """Sign the ledger around what a call does."""
    import time

    def sign(what: str) -> None:
        with open(ledger, "a") as file:
            file.write(f"{what} {os.environ['MATTERSTACK_TOKEN']}\n")

    sign("start")
    if kind == "late":
        time.sleep(0.5)
    sign("end")
    if kind == "fails" and os.environ["MATTERSTACK_ATTEMPT"] == "1":
        raise ValueError(kind)
    return len(kind)


def added(numbers: list[int], ledger: str) -> int:
    """Return the sum, and sign the ledger."""
    with open(ledger, "a") as file:
        file.write(f"start {os.environ['MATTERSTACK_TOKEN']}\nend {os.environ['MATTERSTACK_TOKEN']}\n")
    return sum(numbers)


def bowl(x: float, y: float, ledger: str) -> dict[str, float]:
    """Return what shall be small, and sign the ledger."""
    with open(ledger, "a") as file:
        file.write(f"start {os.environ['MATTERSTACK_TOKEN']}\nend {os.environ['MATTERSTACK_TOKEN']}\n")
    return {"x": x, "y": y, "height": (x - 0.3) ** 2 + y**2}


class Streams(ms.Campaign):
    """Adds calls as places become free, and notes each result that it takes."""

    def __init__(self, kinds: list[str], at_once: int, ledger: str) -> None:
        self.kinds, self.at_once, self.ledger = kinds, at_once, ledger

    def initial_state(self) -> list[str]:
        """Begin with no result."""
        return []

    def update(self, state: list[str], results: dict[str, ms.TaskResult], live: dict[str, Any]) -> ms.Update:
        """Take what is there, and fill the places."""
        taken, more = [*state, *results], ms.Workflow()
        begun = len(taken) + len(live)
        for number in range(begun, min(begun + self.at_once - len(live), len(self.kinds))):
            more.add(f"t{number}", ms.task(called, retries=_RETRIES), self.kinds[number], self.ledger)
        return ms.Update(taken, add=more)


class Optimizes(ms.Campaign):
    """Tries three points of a space an iteration, as an optimizer says."""

    def __init__(self, iterations: int, ledger: str) -> None:
        self.iterations, self.ledger = iterations, ledger

    def initial_state(self) -> list[dict[str, float]]:
        """Begin with nothing observed."""
        return []

    def plan(self, state: list[dict[str, float]]) -> ms.Workflow | None:
        """Return the points to try next."""
        if len(state) >= 3 * self.iterations:
            return None
        flow = ms.Workflow()
        optimizer = Sobol(Space({"x": Real(0, 1), "y": Real(0, 1)}), minimize="height")
        for number, point in enumerate(optimizer.suggest(3, state)):
            flow.add(f"p{number}", ms.task(bowl, retries=_RETRIES), point["x"], point["y"], self.ledger)
        return flow

    def analyze(self, state: list[dict[str, float]], results: Mapping[str, ms.TaskResult]) -> list[dict[str, float]]:
        """Note what was found."""
        return state + [one.value for one in results.values()]


class Raises(ms.Campaign):
    """Plans once, and then never again."""

    def __init__(self, ledger: str) -> None:
        self.ledger = ledger

    def initial_state(self) -> int:
        """Begin."""
        return 0

    def plan(self, state: int) -> ms.Workflow:
        """Raise, the second time."""
        if state:
            raise ValueError("no more luck")
        return ms.Workflow([witnessed("a", "true", Path(self.ledger), retries=_RETRIES)])

    def analyze(self, state: int, results: Mapping[str, ms.TaskResult]) -> int:
        """Count."""
        return state + 1


def _commands(dice: random.Random, ledger: Path, around: Surroundings) -> Plan:
    flow, names = ms.Workflow(), list[str]()
    for number in range(dice.randint(6, 14)):
        command = dice.choice(
            ["true", "sleep 0.3", "sleep 2", '[ "$MATTERSTACK_ATTEMPT" -ge 2 ]', "setsid sleep 300 & true"]
        )
        above = dice.sample(names, min(len(names), dice.randint(0, 3)))
        flow.add_task(witnessed(f"t{number}", command, ledger, dependencies=above, retries=_RETRIES))
        names.append(f"t{number}")
    return Plan(flow)


def _fails(dice: random.Random, ledger: Path, around: Surroundings) -> Plan:
    flow = ms.Workflow([witnessed("a", "sleep 1; exit 3", ledger), witnessed("b", "true", ledger, dependencies="a")])
    return Plan(flow, ends=ms.RunStatus.FAILED)


def _many(dice: random.Random, ledger: Path, around: Surroundings) -> Plan:
    return Plan(ms.Workflow(witnessed(f"t{n}", "true", ledger, retries=_RETRIES) for n in range(200)))


def _calls(dice: random.Random, ledger: Path, operator: str = "local") -> ms.Workflow:
    flow, kinds = ms.Workflow(), dice.choices(["", "late", "fails"], k=6)
    calls = [
        flow.add(f"t{n}", ms.task(called, operator=operator, retries=_RETRIES), kind, str(ledger))
        for n, kind in enumerate(kinds)
    ]
    flow.add("sum", ms.task(added, operator=operator, retries=_RETRIES), calls, str(ledger))
    flow.add("wanted", ms.task(added, operator=operator, retries=_RETRIES), [len(kind) for kind in kinds], str(ledger))
    return flow


def _adds_up(run: ms.Run) -> bool:
    return bool(run.value("sum") == run.value("wanted"))


def _warm(dice: random.Random, ledger: Path, around: Surroundings) -> Plan:
    return Plan(_calls(dice, ledger), holds=_adds_up)


def _cold(dice: random.Random, ledger: Path, around: Surroundings) -> Plan:
    return Plan(_calls(dice, ledger), {"local": ms.LocalOperator(max_active=2, warm=False)}, holds=_adds_up)


def _person(dice: random.Random, ledger: Path, around: Surroundings) -> Plan:
    flow = ms.Workflow([witnessed("first", "true", ledger, retries=_RETRIES)])
    for number in range(3):
        flow.add_task(ms.Task(f"gate{number}", operator="human", instructions="Go?", schema=GATE, dependencies="first"))
    flow.add_task(witnessed("last", "true", ledger, dependencies=["gate0", "gate1"], retries=_RETRIES))
    return Plan(flow, {"local": ms.LocalOperator(), "human": ms.HumanOperator()})


def _asks(dice: random.Random, ledger: Path, around: Surroundings) -> Plan:
    tasks = [
        witnessed(f"t{n}", "grep -q fine INCAR", ledger, files={"INCAR": b"rough"}, on_failure="ask") for n in range(3)
    ]
    return Plan(ms.Workflow([*tasks, witnessed("last", "true", ledger, dependencies="t0", retries=_RETRIES)]))


def _experiment(dice: random.Random, ledger: Path, around: Surroundings) -> Plan:
    flow = ms.Workflow(
        ms.Task(
            f"xrd_{symbol}", operator="xrd", parameters={"symbol": symbol}, outputs=["pattern.csv"], retries=_RETRIES
        )
        for symbol in ("Cu", "Fe", "Al")
    )
    operator = ms.ExperimentOperator(request_schema=PARAMETERS, heartbeat_timeout_s=15.0)
    return Plan(flow, {"xrd": operator})


def _kits(dice: random.Random, ledger: Path, around: Surroundings) -> Plan:
    command = "cat start; echo e > OUTCAR; echo '{\"e_eV\": -2}' > result.json"
    tasks = [
        witnessed(f"k{n}", command, ledger, operator="manual", files={"start": "1\n"}, outputs=["OUTCAR"])
        for n in range(3)
    ]
    last = witnessed("last", "cat there", ledger, files={"there": ms.FromTask("k0", "OUTCAR")}, retries=_RETRIES)
    return Plan(ms.Workflow([*tasks, last]), {"local": ms.LocalOperator(), "manual": ms.ManualHPCOperator()})


_QUICK = {"timeout_s": 20.0, "grace_s": 10.0, "poll_s": 0.5}


def _jobs(dice: random.Random, ledger: Path) -> ms.Workflow:
    flow = _calls(dice, ledger, "slurm")
    for number in range(3):
        command = dice.choice(["true", "sleep 3", '[ "$MATTERSTACK_ATTEMPT" -ge 2 ]'])
        flow.add_task(witnessed(f"job{number}", command, ledger, operator="slurm", retries=_RETRIES))
    return flow


def _slurm(dice: random.Random, ledger: Path, around: Surroundings) -> Plan | None:
    return around.slurm and Plan(_jobs(dice, ledger), {"slurm": ms.SlurmOperator(**_QUICK)}, holds=_adds_up)


def _packed(dice: random.Random, ledger: Path, around: Surroundings) -> Plan | None:
    return around.slurm and Plan(_jobs(dice, ledger), {"slurm": ms.SlurmOperator(pack=4, **_QUICK)}, holds=_adds_up)


def _ssh(dice: random.Random, ledger: Path, around: Surroundings) -> Plan | None:
    if around.link is None:
        return None
    operator = ms.SlurmOperator(host="cluster", root=str(around.link.state / "there"), **_QUICK)
    return Plan(_jobs(dice, ledger), {"slurm": operator}, holds=_adds_up)


def _dask(dice: random.Random, ledger: Path, around: Surroundings) -> Plan | None:
    if around.farm is None:
        return None
    flow = _calls(dice, ledger, "dask")
    for number in range(3):
        command = dice.choice(["true", "sleep 3", '[ "$MATTERSTACK_ATTEMPT" -ge 2 ]'])
        flow.add_task(witnessed(f"job{number}", command, ledger, operator="dask", retries=_RETRIES))
    return Plan(flow, {"dask": ms.DaskOperator(around.farm.address, grace_s=10.0, timeout_s=5.0)}, holds=_adds_up)


def _streams(dice: random.Random, ledger: Path, around: Surroundings) -> Plan:
    kinds = dice.choices(["", "", "late", "fails"], k=dice.randint(8, 16))
    wanted = sorted(f"t{number}" for number in range(len(kinds)))
    campaign = Streams(kinds, dice.randint(1, 3), str(ledger))
    return Plan(campaign, holds=lambda run: sorted(run.campaign_state) == wanted)


def _optimizes(dice: random.Random, ledger: Path, around: Surroundings) -> Plan:
    return Plan(Optimizes(4, str(ledger)), holds=lambda run: len({one["x"] for one in run.campaign_state}) == 12)


def licenses(ledger: Path) -> Path:
    """Return where those of a workspace sign who hold a license."""
    return ledger.parent / "licenses"


def _license(dice: random.Random, ledger: Path, around: Surroundings) -> Plan:
    wants, shared = ms.Resources(named={"license": 1}), licenses(ledger)
    command = f'echo "in $MATTERSTACK_TOKEN" >> {shared}; sleep 0.5; echo "out $MATTERSTACK_TOKEN" >> {shared}'
    names = [f"t{number}" for number in range(dice.randint(5, 12))]
    return Plan(ms.Workflow(witnessed(name, command, ledger, resources=wants, retries=_RETRIES) for name in names))


def _raises(dice: random.Random, ledger: Path, around: Surroundings) -> Plan:
    return Plan(Raises(str(ledger)), ends=ms.RunStatus.PAUSED)


#: What a run is made of; None where its surroundings are missing.
KINDS: dict[str, Callable[[random.Random, Path, Surroundings], Plan | None]] = {
    "commands": _commands, "fails": _fails, "many": _many, "warm": _warm, "cold": _cold, "person": _person,
    "asks": _asks, "experiment": _experiment, "kits": _kits, "slurm": _slurm, "packed": _packed, "ssh": _ssh,
    "dask": _dask, "streams": _streams, "optimizes": _optimizes, "license": _license, "raises": _raises,
}  # fmt: skip
#: The twenty of a night.
NIGHT = [*KINDS, "person", "kits", "license"]
