"""The hand of a site: it runs commands in order, takes claims, and looks at what jobs have left.

Here it is a module like any other. To a cluster that ssh reaches, its source is sent as a program, so it needs
nothing but the standard library of Python 3.8.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import Any

MARK = "matterstack-reply:"
_END = "matterstack-exit:"
_MOST = 1000000
#: Variables of the job that this process itself may run in, and options for commands that are not ours.
_FOREIGN = ("SLURM_", "SLURMD_", "PMI_", "PMI2_", "PMIX_",
            "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_")  # fmt: skip
#: Of these, what Slurm never sets in a job: a user did, to say which cluster is meant, and whose time it is.
_WANTED = ("SLURM_CONF", "SBATCH_ACCOUNT", "SBATCH_PARTITION", "SBATCH_QOS", "SBATCH_RESERVATION", "SBATCH_WCKEY")


def carry_out(request: dict[str, Any]) -> dict[str, Any]:
    """Do what a request asks for, and return what came of it.

    Parameters
    ----------
    request : dict
        ``root``: directory to work in, made where it is missing; None for the present one.
        ``commands``: pairs of argument list and directory, started one after the other.
        ``timeout_s``: how long each may take, and for how long others are started.
        ``stop``: pattern of standard error after which no other is started.
        ``claim``, ``look``: names of attempts below ``root``.

    Returns
    -------
    dict
        ``done``: of each command exit code, standard output and error; the code is None where the command did not end
        in time, or was not started. ``claimed``: of each name whether nothing can begin there any more but had begun
        nothing. ``left``: by name, ``[claim/started.json, exit.json]`` as text, None for a file that is not there.
    """
    if request["root"] is not None:
        os.makedirs(request["root"], exist_ok=True)
        os.chdir(request["root"])
    return {
        "done": _run(request["commands"], request["timeout_s"], request["stop"]),
        "claimed": [_claim(name) for name in request["claim"]],
        "left": {name: _look(name) for name in request["look"]},
    }


def proved(argv: Any) -> Any:
    """Return a command that does the same, and prints last how it ended; `exit_of` reads that.

    What the operating system reports is nothing where the caller ignores SIGCHLD: any command then ended well. SIGTERM
    to the group leaves the shell to tell how the command took it.
    """
    return ["/bin/sh", "-c", f'trap : TERM; "$@"; printf "\\n{_END} %d\\n" "$?"', "sh", *argv]


def exit_of(output: str) -> Any:
    """Return exit code and standard output of a command that was `proved`; the code is None where it told none."""
    before, _, code = output.rpartition("\n" + _END + " ")
    return (int(code), before) if code[-1:] == "\n" and code[:-1].isdigit() else (None, output)


def environment() -> Any:
    """Return the variables with which commands of Slurm are started, and the jobs they submit."""
    return {name: value for name, value in os.environ.items() if name in _WANTED or not name.startswith(_FOREIGN)}


def _run(commands: list[Any], timeout_s: float, stop: str) -> list[Any]:
    clean = environment()
    until = time.monotonic() + timeout_s
    done: list[Any] = []
    stopped = None
    for argv, directory in commands:
        if stopped is None and done and time.monotonic() >= until:
            stopped = "there was no time left to start it"
        if stopped is not None:
            done.append([None, "", stopped])
            continue
        try:
            code, text, error = _one(argv, directory, clean, timeout_s)
        except subprocess.TimeoutExpired:
            stopped = f"{argv[0]} did not answer within {timeout_s:g} s"
            done.append([None, "", stopped])
            continue
        except OSError as problem:
            done.append([None, "", f"{argv[0]} cannot be started: {problem}"])
            continue
        if code is None:
            error = f"{argv[0]} was killed: nobody can tell what it did"
        elif code in (126, 127):
            code, error = None, f"{argv[0]} cannot be started: {error.strip()[-300:]}"
        elif code and stop and re.search(stop, error):
            stopped = "it was not started, because one before it failed: " + error.strip()[-300:]
        done.append([code, text, error])
    return done


def _one(argv: Any, directory: Any, clean: Any, timeout_s: float) -> Any:
    """Run a command within its time, and end all of it when that is over; return exit code, output and error."""
    process = subprocess.Popen(
        proved(argv),
        cwd=directory,
        env=clean,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        said, error = process.communicate(timeout=timeout_s)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    code, text = exit_of(said.decode("utf-8", "replace"))
    return code, text, error.decode("utf-8", "replace")


def _claim(name: str) -> bool:
    try:
        os.mkdir(name + "/.matterstack/claim")
    except FileExistsError:
        return False
    except FileNotFoundError:
        pass  # without its directory it cannot begin
    return True


def _look(name: str) -> list[Any]:
    began = _text(name + "/.matterstack/claim/started.json")
    if began is None and os.path.isdir(name + "/.matterstack/claim"):
        began = ""
    return [began, _text(name + "/.matterstack/exit.json")]


def _text(path: str) -> Any:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        return file.read(_MOST).decode("utf-8", "replace")


def main(text: str) -> None:
    """Carry out a request that is JSON text, and print the reply."""
    sys.stdout.write(MARK + json.dumps(carry_out(json.loads(text))) + "\n")
    sys.stdout.flush()
