"""A job of jobflow, as a task: `python task.py` in this directory does it again.

MatterStack wrote this file; the job, as its `as_dict` says it, is in args.json.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

if __name__ == "__main__":
    import matterstack_main


def run_job(job: dict[str, Any], outputs: dict[str, Any]) -> Any:
    """Run a job as jobflow does, and return its output as jobflow's store keeps it.

    Parameters
    ----------
    job : dict
        ``Job.as_dict()``.
    outputs : dict
        By the uuid of a job before: what its task returned.

    Raises
    ------
    NotImplementedError
        The job asks its manager for more than to keep its output.
    """
    from jobflow import Job, JobStore, OnMissing
    from maggma.stores import MemoryStore

    store = JobStore(MemoryStore())
    store.connect()
    made = Job.from_dict(job)
    for uuid, output in outputs.items():
        # None is also what a task gave that failed: jobflow then does what `on_missing_references` says.
        if output is not None or made.config.on_missing_references == OnMissing.ERROR:
            store.update({"uuid": uuid, "index": 1, "output": output}, key=["uuid", "index"])
    response = made.run(store)
    for asked in ("replace", "detour", "addition", "stored_data", "stop_children", "stop_jobflow"):
        if getattr(response, asked) not in (None, False):
            raise NotImplementedError(
                f"the job {made.name!r} ({made.uuid}) returned Response({asked}=...), which changes the flow while it "
                "runs; a task here only gives its output: write that step as a Campaign, whose plan() gives the next"
            )
    return store.query_one({"uuid": made.uuid, "index": made.index})["output"]


if __name__ == "__main__":
    matterstack_main.run(run_job, packages=["jobflow"])
