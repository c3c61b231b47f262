"""The options of sbatch: what resources mean to it, and which ones a user may give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matterstack.errors import InvalidTaskError

#: Options that would take an attempt out of our hands, or have sbatch do something else.
_OURS = (
    "job-name", "comment", "hold", "parsable", "output", "error", "chdir", "wrap", "array", "requeue", "no-requeue",
    "wait", "test-only", "uid", "gid", "batch", "quiet", "dependency", "begin", "clusters", "help", "usage", "version",
)  # fmt: skip


def check_options(options: Sequence[str], what: str) -> None:
    """Raise unless these are plain long options of sbatch that leave the job in our hands.

    Raises
    ------
    InvalidTaskError
        Naming the option.
    """
    for option in options:
        name = option.partition("=")[0] if isinstance(option, str) else ""
        plain = isinstance(option, str) and option.isprintable() and name.startswith("--") and name[2:3].isalpha()
        if not plain or any(character.isspace() for character in name):
            raise InvalidTaskError(f"{what}: {option!r} is not a long option of sbatch, as in '--partition=long'")
        # sbatch takes the beginning of an option for the whole (getopt_long(3)), where no other begins so.
        if ours := [f"--{ours}" for ours in _OURS if ours.startswith(name[2:])]:
            raise InvalidTaskError(f"{what}: {option!r} would be taken for {' or '.join(ours)}, which is MatterStack's")


def sbatch_options(resources: Mapping[str, object]) -> list[str]:
    """Return what resources mean to sbatch.

    Parameters
    ----------
    resources : mapping
        As `matterstack.core.resources.Resources` names them.

    Examples
    --------
    >>> sbatch_options({"tasks": 4, "memory_gib": 1.5, "walltime_s": 90})
    ['--ntasks=4', '--mem=1536M', '--time=0-00:01:30']
    """
    options = []
    words = {"nodes": "nodes", "tasks": "ntasks", "cpus_per_task": "cpus-per-task", "gpus": "gpus",
             "partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint"}  # fmt: skip
    for name, option in words.items():
        if resources.get(name):
            options.append(f"--{option}={resources[name]}")
    if memory_gib := resources.get("memory_gib"):
        nodes = int(str(resources.get("nodes", 1)))
        options.append(f"--mem={max(1, round(float(str(memory_gib)) * 1024 / nodes))}M")  # sbatch counts by node
    if walltime_s := resources.get("walltime_s"):
        minutes, seconds = divmod(max(1, round(float(str(walltime_s)))), 60)
        hours, minutes = divmod(minutes, 60)
        days, hours = divmod(hours, 24)
        options.append(f"--time={days}-{hours:02d}:{minutes:02d}:{seconds:02d}")
    extra = resources.get("extra", ())
    assert isinstance(extra, list | tuple)
    return options + [str(option) for option in extra]
