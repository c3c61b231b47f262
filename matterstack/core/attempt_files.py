"""The names in an attempt's directory: which are whose.

What a person reads and what a task may use stands at the top; all that is machinery is in one folder of ours. So a
task may call its files as it likes, but for the few names that are listed here, and no name of ours can be taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from matterstack.errors import InvalidTaskError

#: The folder of ours.
MACHINERY = ".matterstack"
#: In it: from which entry of a cache an attempt was taken; or else under which key it will be kept.
CACHED, KEY = f"{MACHINERY}/cached.json", f"{MACHINERY}/key.json"
#: In it: what monitors have said of an attempt that runs.
MONITORS = f"{MACHINERY}/monitors.json"
#: The folder of what a request shows.
SHOWN = "show"
#: In it: what could not be shown, and why, a line each. No task has such an id.
NOT_SHOWN = "_not_shown.txt"


class Family(StrEnum):
    """Which directories a name is found in."""

    EVERY = "every attempt"
    CALL = "a call of a function"
    JOB = "a job"
    REQUEST = "a request to a person"
    INSTRUMENT = "a request to an instrument"
    KIT = "a kit"


class Entry(NamedTuple):
    """A name in an attempt's directory.

    Attributes
    ----------
    name : str
        Relative; one with a trailing slash is a directory.
    family : Family
    writer : str
        Who writes it.
    meaning : str
    """

    name: str
    family: Family
    writer: str
    meaning: str


#: Every name that is not the task's own, in the order of the page that shows them (`docs/attempt-directory.md`).
#: Of what a kit brings home, that which says that it is whole comes last.
TABLE: tuple[Entry, ...] = (
    Entry("inputs.json", Family.EVERY, "the run", "status, directory and data of each dependency"),
    Entry("parameters.json", Family.EVERY, "the run", "`Task.parameters`, where the task has any"),
    Entry("stdout.txt", Family.EVERY, "the command", "its standard output"),
    Entry("stderr.txt", Family.EVERY, "the command", "its standard error"),
    Entry("result.json", Family.EVERY, "the command", "the task's data"),
    Entry(f"{MACHINERY}/", Family.EVERY, "the run", "the machinery: what follows below this name"),
    Entry(f"{MACHINERY}/key.json", Family.EVERY, "the run", "what its result depends on, where that shall be cached"),
    Entry(
        f"{MACHINERY}/cached.json", Family.EVERY, "the run", "from where its result was taken, where that was cached"
    ),
    Entry(
        f"{MACHINERY}/monitors.json",
        Family.EVERY,
        "the run",
        "when monitors were asked of it, and their word to stop it",
    ),
    Entry("task.py", Family.CALL, "the run", "the function, with all that it needs; `python task.py` does it again"),
    Entry("matterstack_main.py", Family.CALL, "the run", "what `task.py` calls at its end"),
    Entry("matterstack_values.py", Family.CALL, "the run", "how values are written and read"),
    Entry("__pycache__/", Family.CALL, "the run", "both of them, compiled"),
    Entry("modules/", Family.CALL, "the run", "modules beside the notebook that the function uses"),
    Entry("args.json", Family.CALL, "the run", "the arguments"),
    Entry("args/", Family.CALL, "the run", "their large arrays, by their SHA-256"),
    Entry("values/", Family.CALL, "the run", "values of the tasks before, a folder per task"),
    Entry(f"{MACHINERY}/made.json", Family.CALL, "the command", "what it ran in, and SHA-256 of what it left"),
    Entry("value.json", Family.CALL, "the command", "what the function returned"),
    Entry("value/", Family.CALL, "the command", "its large arrays, by their SHA-256"),
    Entry("error.json", Family.CALL, "the command", "what the function raised, and at which line"),
    Entry(f"{MACHINERY}/start", Family.CALL, "the run", "how it began: warm, or cold and why"),
    Entry("slurm.out", Family.JOB, "Slurm", "what the job's script and Slurm itself print"),
    Entry("corrections.json", Family.EVERY, "the run", "what handlers did to the inputs"),
    Entry(f"{MACHINERY}/job.sh", Family.JOB, "the run", "the script of the job"),
    Entry(f"{MACHINERY}/job.out", Family.JOB, "a worker of Dask", "what that script prints"),
    Entry(f"{MACHINERY}/claim/", Family.JOB, "the job", "made once: whoever makes it runs the command"),
    Entry(f"{MACHINERY}/claim/started.json", Family.JOB, "the job", "when, where and as which job it began"),
    Entry(f"{MACHINERY}/claim/alive", Family.JOB, "the job", "touched once a second by a job that nobody watches"),
    Entry(f"{MACHINERY}/claim/code", Family.JOB, "the job", "the exit code of the command, as its shell tells it"),
    Entry(f"{MACHINERY}/surroundings", Family.JOB, "the job", "host, container and modules of the command"),
    Entry(f"{MACHINERY}/sums", Family.JOB, "the job", "SHA-256 and size of what the command left"),
    Entry(f"{MACHINERY}/exit.json", Family.JOB, "the job", "how the command ended, or the script before it"),
    Entry(f"{MACHINERY}/left.json", Family.JOB, "the run", "how it ended there, until what it left is here"),
    Entry(f"{MACHINERY}/cancel", Family.JOB, "the run", "asks the job to end"),
    Entry(f"{MACHINERY}/released.<id>", Family.JOB, "the run", "this job of Slurm was released by us"),
    Entry(f"{MACHINERY}/chunk", Family.JOB, "the run", "which job it shares with others"),
    Entry(f"{MACHINERY}/missing.json", Family.JOB, "the run", "since when it shows no sign of life"),
    Entry(f"{MACHINERY}/cancelled.json", Family.JOB, "the run", "since when its job, which is not shown, is cancelled"),
    Entry("instructions.md", Family.REQUEST, "the run", "what is asked, and of whom"),
    Entry("schema.json", Family.REQUEST, "the run", "JSON Schema of the answer"),
    Entry("response.template.json", Family.REQUEST, "the run", "to copy and fill in"),
    Entry("response.template.csv", Family.REQUEST, "the run", "the same as a table, where a table is asked for"),
    Entry("response.template.xlsx", Family.REQUEST, "the run", "the same as a workbook, where openpyxl is installed"),
    Entry("HOWTO.txt", Family.REQUEST, "the run", "for somebody without this software"),
    Entry("results.csv", Family.REQUEST, "the run", "results of the tasks before, as a table"),
    Entry(f"{SHOWN}/", Family.REQUEST, "the run", "`Task.show`: files and data of tasks before, a folder per task"),
    Entry("response.json", Family.REQUEST, "the person", "the answer"),
    Entry("response.csv", Family.REQUEST, "the person", "the answer as a table"),
    Entry("response.xlsx", Family.REQUEST, "the person", "the answer as a workbook, where openpyxl is installed"),
    Entry("response.errors.md", Family.REQUEST, "the run", "why the last answer was refused, or that it is over"),
    Entry("experiment_request.json", Family.INSTRUMENT, "the run", "what shall be measured"),
    Entry("experiment_ack.json", Family.INSTRUMENT, "the instrument", "it takes the request up"),
    Entry("experiment_heartbeat.json", Family.INSTRUMENT, "the instrument", "rewritten while it works"),
    Entry("experiment_result.json", Family.INSTRUMENT, "the instrument", "what it measured"),
    Entry("experiment_result.errors.md", Family.INSTRUMENT, "the run", "why the last result was refused"),
    Entry("experiment_abort.json", Family.INSTRUMENT, "the run", "stop"),
    Entry(f"{MACHINERY}/silent.json", Family.INSTRUMENT, "the run", "since when it shows no sign of life"),
    *(
        Entry(f"{MACHINERY}/{name}", family, "the run", meaning)
        for family in (Family.REQUEST, Family.INSTRUMENT)
        for name, meaning in (
            ("token", "whose directory it is"),
            ("verdict.json", "how the request ended: who, when, the SHA-256"),
            ("accepted/", "the bytes that were accepted, by their SHA-256"),
            ("rejected/", "each refused answer, with the reasons"),
            ("answer.json", "which text was seen at the last look"),
            ("checking.json", "since when an answer is being checked"),
            ("notified/", "what somebody was told of"),
        )
    ),
    Entry("HOWTO.txt", Family.KIT, "the run", "how to run it anywhere, and how to bring it home"),
    Entry("submit.sh", Family.KIT, "the run", "for sbatch or sh"),
    Entry("MANIFEST.json", Family.KIT, "the run", "whose kit it is, and the SHA-256 of every file in it"),
    Entry("inputs/", Family.KIT, "the run", "the files of the task"),
    Entry("slurm.out", Family.KIT, "Slurm", "what the script and Slurm itself print"),
    Entry(f"{SHOWN}/", Family.KIT, "the run", "`Task.show`: files and data of tasks before, a folder per task"),
    Entry("output/", Family.KIT, "the kit", "what comes home: the command runs in here"),
    Entry("output.sha256", Family.KIT, "the kit", "sums of what the command left"),
    Entry("status.json", Family.KIT, "the kit", "that it runs, and at the end how it ended"),
    Entry("done", Family.KIT, "the person", "that it ended well, where the kit was run in another way"),
    Entry("CANCELLED.txt", Family.KIT, "the run", "that it is no longer wanted"),
    Entry(f"{MACHINERY}/token", Family.KIT, "the run", "whose directory it is"),
    Entry(f"{MACHINERY}/output.json", Family.KIT, "the run", "since when what came home has not changed"),
    Entry(f"{MACHINERY}/sums.json", Family.KIT, "the run", "SHA-256 of large files that came home"),
    Entry(f"{MACHINERY}/sums.lock", Family.KIT, "the run", "held by the process that makes them"),
    Entry(f"{MACHINERY}/notified/", Family.KIT, "the run", "what somebody was told of"),
)


def taken_names(*families: Family) -> frozenset[str]:
    """Return the names at the top of such a directory that are not the task's to use, in lower case."""
    return frozenset(entry.name.split("/")[0].casefold() for entry in TABLE if entry.family in families)


def check_names(task_id: str, paths: Iterable[str], *families: Family) -> None:
    """Refuse files of a task that would take a name of the run's.

    Parameters
    ----------
    task_id : str
    paths : iterable of str
        Of the task's files.
    *families : Family
        Which directories they are placed in.

    Raises
    ------
    InvalidTaskError
        One does, be it in other letters: some file systems do not tell them apart.
    """
    taken = taken_names(*families)
    for path in paths:
        if path.split("/")[0].casefold() in taken:
            raise InvalidTaskError(
                f"task {task_id!r}: files must not use {path!r}, a name of the run's own in the directory of "
                f"{' and '.join(families)}: give the file another name",
                task_id=task_id,
            )
