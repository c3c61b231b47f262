"""A job of jobflow, as a task: `python task.py` in this directory does it again.

MatterStack wrote this file; the job, as its `as_dict` says it, is in args.json. Where it became other jobs, what all of
them gave is in jobflow.json, and each of them ran in a folder of its own.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

if __name__ == "__main__":
    import matterstack_main


class InnerJobError(Exception):
    """A job failed that the job of this task became."""


class StoppedError(Exception):
    """A job said that those after it shall not run."""


def run_job(job: dict[str, Any], outputs: dict[str, Any]) -> Any:
    """Run a job as jobflow does, with all that it becomes, and return its output as jobflow's store gives it.

    Parameters
    ----------
    job : dict
        ``Job.as_dict()``.
    outputs : dict
        By the uuid of a job before: what its task returned.

    Raises
    ------
    InnerJobError
        A job failed that this one became.
    StoppedError
        This job, or one that it became, stops those after it.
    """
    from collections import defaultdict

    from jobflow import Job, JobStore, OnMissing
    from maggma.stores import MemoryStore
    from monty.json import jsanitize
    from monty.os import cd

    def memory() -> Any:
        store = MemoryStore()
        store.connect()
        return store

    # As in jobflow's own settings: whatever large outputs are to be kept in is made when it is asked for.
    store = JobStore(memory(), additional_stores=defaultdict(memory))
    made = Job.from_dict(job)
    for uuid, output in outputs.items():
        # None is also what a task gave that failed: jobflow then does what `on_missing_references` says.
        if output is not None or made.config.on_missing_references == OnMissing.ERROR:
            store.update({"uuid": uuid, "index": 1, "output": output}, key=["uuid", "index"])
    with cd("."):  # a job that goes elsewhere comes back
        response = made.run(store)
    changes = [response.replace, response.detour, response.addition]
    try:
        run_what_it_became(made, response, store)
    finally:
        if any(part is not None for part in changes) or response.stop_children or response.stop_jobflow:
            keep_outputs(store.query({"uuid": {"$nin": list(outputs)}}, sort={"completed_at": 1}, load=True))
    # An output may hold references, to jobs that are only in this store.
    found = store.get_output(made.uuid, load=True, on_missing=OnMissing.PASS)
    return jsanitize(found, strict=True, enum_values=True, allow_bson=True)


def run_what_it_became(made: Any, response: Any, store: Any) -> None:
    """Run replacement, detour and addition of a job, in this order, by jobflow's own manager.

    Parameters
    ----------
    made : jobflow.Job
        The job, which has run.
    response : jobflow.Response
        What it gave.
    store : jobflow.JobStore
        With all outputs so far.
    """
    import logging

    from jobflow import CURRENT_JOB, run_locally

    if response.stored_data is not None:
        logging.getLogger("jobflow").warning("Response.stored_data of %s is not kept, as by run_locally", made.name)
    responses = {made.uuid: {made.index: response}}
    for part in (response.replace, response.detour, response.addition):
        if part is None or any(one.stop_jobflow for of_job in responses.values() for one in of_job.values()):
            continue
        try:
            ran = run_locally(
                part, store=store, create_folders=True, allow_external_references=True, raise_immediately=True
            )
        except (Exception, SystemExit) as error:
            # jobflow leaves the job there whose run raised.
            name = f"the job {CURRENT_JOB.job.name!r} ({CURRENT_JOB.job.uuid})" if CURRENT_JOB.job else "a flow"
            raise InnerJobError(f"{name}, which {made.name!r} became: {type(error).__name__}: {error}") from error
        for uuid, of_job in ran.items():
            responses.setdefault(uuid, {}).update(of_job)
    for uuid, of_job in responses.items():
        for index, one in of_job.items():
            if one.stop_children or one.stop_jobflow:
                name = store.query_one({"uuid": uuid, "index": index})["name"]
                asked = "jobflow" if one.stop_jobflow else "children"
                raise StoppedError(
                    f"the job {name!r} ({uuid}) returned Response(stop_{asked}=True), so that those after it do not "
                    "run; its output is in jobflow.json"
                )


def keep_outputs(documents: Any) -> None:
    """Write what all jobs gave that ran here, as jobflow's store has it, to jobflow.json.

    Parameters
    ----------
    documents : iterable of dict
    """
    import json

    with open("jobflow.json", "w", encoding="utf-8") as file:
        json.dump([{k: v for k, v in one.items() if k != "_id"} for one in documents], file, indent=1, default=str)


if __name__ == "__main__":
    matterstack_main.run(run_job, packages=["jobflow"])
