"""The same workload by jobflow's run_locally, one at a time as it does: ``peer_jobflow.py layers|chain N``."""

from __future__ import annotations

import subprocess
import sys

from jobflow import Flow, job, run_locally

kind, count = sys.argv[1], int(sys.argv[2])


@job
def true(above):
    return subprocess.run(["/bin/true"], check=True).returncode


jobs = {}
if kind == "chain":
    for n in range(count):
        jobs[n] = true(jobs[n - 1].output if n else None)
else:
    width = count // 10
    for layer in range(10):
        for n in range(width):
            above = [jobs[layer - 1, n].output, jobs[layer - 1, (n + 1) % width].output] if layer else None
            jobs[layer, n] = true(above)
responses = run_locally(Flow(list(jobs.values())), log=False, ensure_success=True)
assert len(responses) == count
