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


def run_job(job: dict[str, Any], outputs: dict[str, Any], tasks: dict[str, str]) -> Any:
    """Run a job as jobflow does, with all that it becomes, and return its output as jobflow's store gives it.

    Parameters
    ----------
    job : dict
        ``Job.as_dict()``.
    outputs : dict
        By the uuid of a job before: what its task returned.
    tasks : dict of str to str
        By the uuid of a job without which this one can do: its task.

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
        # Where there is none, since that task failed, jobflow does what `on_missing_references` says.
        if uuid not in tasks or is_completed(tasks[uuid]):
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


def is_completed(task: str) -> bool:
    """Return whether a task before is completed, by what lies beside this one.

    Parameters
    ----------
    task : str
    """
    import json

    with open("inputs.json", encoding="utf-8") as file:
        status: str = json.load(file)[task]["status"]
    return status == "COMPLETED"


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
    if (stopped := find_stopped(made, responses)) is not None:
        uuid, index, asked = stopped
        name = store.query_one({"uuid": uuid, "index": index})["name"]
        raise StoppedError(
            f"the job {name!r} ({uuid}) returned Response(stop_{asked}=True), so that those after it do not "
            "run; its output is in jobflow.json"
        )


def find_stopped(made: Any, responses: dict[str, dict[int, Any]]) -> tuple[str, int, str] | None:
    """Return which job, its index, and what it said, if one says that those after the task shall not run.

    ``stop_children`` is of the jobs that depend on the one that said it: where that is an inner one, jobflow has left
    those out already, and what is after the task depends on whether the last in its place was among them.

    Parameters
    ----------
    made : jobflow.Job
        The job of the task.
    responses : dict
        Of all jobs that ran in it, by uuid and index.
    """
    said = [
        (uuid, index, "jobflow" if one.stop_jobflow else "children")
        for uuid, of_job in responses.items()
        for index, one in of_job.items()
        if one.stop_jobflow or one.stop_children
    ]
    ran = responses[made.uuid]
    replaced = ran[max(ran)].replace
    left_out = replaced is not None and made.uuid in replaced.job_uuids
    return next((one for one in said if one[2] == "jobflow" or one[0] == made.uuid or left_out), None)


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
