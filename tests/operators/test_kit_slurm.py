"""Kits on a real Slurm, handed over as their HOWTO.txt says: one ends, one is killed by its time limit."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

from kit_lab import pack
from slurm_lab import cluster
from waiting import wait_for

import matterstack as ms


def test_sbatch_as_the_kit_says(tmp_path: Path) -> None:
    command = 'echo e > OUTCAR; [ "$MATTERSTACK_TASK_ID" = short ] || sleep 300'
    resources = ms.Resources(walltime_s=240)
    flow = ms.Workflow(
        ms.Task(name, command, operator="cluster", outputs=["OUTCAR"], resources=resources)
        for name in ("short", "long")
    )
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"cluster": ms.ManualHPCOperator()})
    run.step()
    run.export_kits(tmp_path / "kits.zip")
    away = tmp_path / "away"
    with zipfile.ZipFile(tmp_path / "kits.zip") as archive:
        archive.extractall(away)
    with cluster(27217, SLURM_LAB_CPUS="4", SLURM_LAB_MINJOBAGE="300") as lab:
        for kit in away.iterdir():
            subprocess.run(["sbatch", "submit.sh"], cwd=kit, check=True, capture_output=True, timeout=60)
        wait_for(lambda: sorted(state for _, _, state in lab.jobs()) == ["COMPLETED", "RUNNING"])
        wait_for((away / "0.long.1/output/OUTCAR").exists)
        (job,) = (number for number, _, state in lab.jobs() if state == "RUNNING")
        lab.command("scontrol", "update", f"JobId={job}", "EndTime=now")  # its time is over
        wait_for(lambda: not lab.command("squeue", "-h", "-o", "%A"))
        assert sorted(state for _, _, state in lab.jobs()) == ["COMPLETED", "TIMEOUT"]
        said = away / "0.long.1/slurm.out"
        wait_for(lambda: "DUE TO TIME LIMIT" in said.read_text())
    imported = run.import_kits(pack(away, tmp_path / "back.zip"))
    assert sorted(imported.taken) == ["0.long.1", "0.short.1"]
    # What the script was about to write when it was killed is no part of the kit.
    assert set(imported.left_out) <= {"0.long.1/output.sha256.new"}
    run.step()
    assert dict(run.tasks["status"]) == {"0.short": "COMPLETED", "0.long": "SUBMITTED"}
    reason = str(run.tasks.loc["0.long", "reason"])
    last = said.read_text().strip().splitlines()[-1].strip()  # Slurm's word, or that of the shell that it ended
    assert f"left no end: it runs, or was killed; slurm.out ends with: {last[:40]}" in reason
