"""The calls by jobflow's run_locally: one after the other, in this process."""

from __future__ import annotations

import time

from asked import asked, tell
from jobflow import Flow, job, run_locally

if __name__ == "__main__":
    _, function, given = asked()
    began = time.perf_counter()
    jobs = [job(function)(x) for x in given]
    responses = run_locally(Flow(jobs), log=False, ensure_success=True)
    tell(began, [responses[one.uuid][1].output for one in jobs])
