"""The system in one run: read it from top to bottom.

A campaign relaxes three metals and asks a person which one to go on with; the next iteration is carried to a cluster
that nothing can reach. Meanwhile the driver is killed, and the run's directory is moved.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from crashes import in_child

import matterstack as ms
from matterstack import crash_points
from matterstack.errors import AnswerRefusedError, RunNotFoundError

#: A stand-in for a relaxation: it writes its structure and its energy. Al needs a second attempt.
RELAX = """\
test "$1" = Al -a "$MATTERSTACK_ATTEMPT" = 1 && { echo "SCF did not converge" >&2; exit 3; }
echo "structure of $1" > final.xyz
printf '{"energy_eV": %s}' "$2" > result.json
"""
ENERGIES_EV = {"Al": -3.74, "Cu": -3.54, "Ag": -2.83}
PICK = {"type": "object", "properties": {"metal": {"enum": list(ENERGIES_EV)}}, "required": ["metal"]}


class Metals(ms.Campaign):
    """Relax all, have a person pick one, and refine that one elsewhere."""

    def initial_state(self) -> Any:
        return {"picked": None, "refined_eV": None}

    def plan(self, state: Any) -> ms.Workflow | None:
        """Return the next iteration; None when the picked metal is refined."""
        if state["refined_eV"] is not None:
            return None
        if state["picked"] is not None:
            command = """cat start.xyz; printf '{"energy_eV": -9.5}' > result.json"""
            start = {"start.xyz": f"structure of {state['picked']}\n"}
            return ms.Workflow([ms.Task("refine", command, operator="cluster", files=start)])
        flow = ms.Workflow()
        for metal, energy_eV in ENERGIES_EV.items():
            command = ["sh", "relax.sh", metal, str(energy_eV)]
            flow.add_task(
                ms.Task(f"relax_{metal}", command, files={"relax.sh": RELAX}, outputs=["final.xyz"], retries=1)
            )
        pictures = {f"{metal}.xyz": ms.FromTask(f"relax_{metal}", "final.xyz") for metal in ENERGIES_EV}
        flow.add_task(ms.Task("pick", operator="people", instructions="Which one?", schema=PICK, files=pictures))
        return flow

    def analyze(self, state: Any, results: Mapping[str, ms.TaskResult]) -> Any:
        """Take in what the iteration gave."""
        if "pick" in results:
            return {**state, "picked": results["pick"].data["metal"]}
        return {**state, "refined_eV": results["refine"].data["energy_eV"]}


def test_a_campaign_from_its_plan_to_its_end(tmp_path: Path) -> None:
    operators = {
        "local": ms.LocalOperator(max_active=2),
        "people": ms.HumanOperator(),
        "cluster": ms.ManualHPCOperator(),
    }
    run = ms.initialize_run("metals", Metals(), operators=operators, base_path=tmp_path, run_id="first")

    # One tick at a time, from a notebook cell; or until a person is needed.
    assert str(run.step()) == "Tick: 3 tasks ready, 2 submitted, 0 completed"
    assert run.wait(timeout_s=60) is ms.RunStatus.RUNNING
    assert list(run.attempts.loc[["0.relax_Al.1", "0.relax_Al.2"], "status"]) == ["FAILED", "COMPLETED"]
    assert dict(run.results["energy_eV"]) == {f"0.relax_{metal}": e for metal, e in ENERGIES_EV.items()}

    # The person finds the structures in the request, answers wrongly, and then rightly.
    (request,) = run.inbox()
    assert (request.directory / "Al.xyz").read_text() == "structure of Al\n"
    with pytest.raises(AnswerRefusedError, match=r"\$\.metal: must be"):
        run.respond("pick", {"metal": "Au"})
    run.respond("pick", {"metal": "Cu"})

    # The driver is killed at the instant that matters most: analyzed and planned, and not yet stored.
    assert in_child(run.step, lambda: crash_points.arm("kill", "analyze.planned")) == -signal.SIGKILL
    assert run.iteration == 0

    # A colleague moves the directory and opens it: it goes on where it stood.
    moved = run.path.rename(tmp_path / "for Ada")
    with pytest.raises(RunNotFoundError):
        ms.open_run(run.path)
    run = ms.open_run(moved, campaign=Metals())
    while run.iteration == 0 or not run.inbox():
        run.step()
    assert run.campaign_state["picked"] == "Cu"

    # The kit goes out, runs where nothing but a shell is, and comes home.
    run.export_kits(tmp_path / "kits.zip")
    away = tmp_path / "cluster"
    subprocess.run(["python3", "-m", "zipfile", "-e", tmp_path / "kits.zip", away], check=True)
    subprocess.run(["env", "-i", "sh", "submit.sh"], cwd=away / "1.refine.1", check=True)
    subprocess.run(["python3", "-m", "zipfile", "-c", tmp_path / "back.zip", *away.iterdir()], check=True)
    assert run.import_kits(tmp_path / "back.zip").taken == ["1.refine.1"]
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.campaign_state == {"picked": "Cu", "refined_eV": -9.5}

    # What is left can be read for ever: as tables, as a graph, as a journal that tells who did what.
    graph = run.graph
    assert set(graph.predecessors("0.pick")) == {f"0.relax_{metal}" for metal in ENERGIES_EV}
    assert {status for _, status in graph.nodes(data="status")} == {"COMPLETED"}
    assert run.store.check() == []
    verdict = json.loads((run.task_directory("pick", iteration=0) / ".matterstack/verdict.json").read_text())
    assert verdict["outcome"] == "accepted"
    assert [event.event for event in run.store.events() if event.subject == "run"] == ["start", "complete"]
