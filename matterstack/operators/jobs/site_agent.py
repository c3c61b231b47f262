"""The hand of a site: it runs commands in order, takes claims, and looks at what jobs have left.

Here it is a module like any other. To a cluster that ssh reaches, its source is sent as a program, so it needs
nothing but the standard library of Python 3.8.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from typing import Any

MARK = "matterstack-reply:"
_MOST = 1000000


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


def _run(commands: list[Any], timeout_s: float, stop: str) -> list[Any]:
    # Options that the environment sets for other jobs would be taken for ours.
    foreign = ("SBATCH_", "SLURM_JOB", "SQUEUE_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
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
            ended = subprocess.run(
                argv,
                cwd=directory,
                env=clean,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
            )
            text, error = ended.stdout.decode("utf-8", "replace"), ended.stderr.decode("utf-8", "replace")
            done.append([ended.returncode, text, error])
            if ended.returncode and stop and re.search(stop, error):
                stopped = "it was not started, because one before it failed: " + error.strip()[-300:]
        except subprocess.TimeoutExpired:
            stopped = f"{argv[0]} did not answer within {timeout_s:g} s"
            done.append([None, "", stopped])
        except OSError as problem:
            done.append([None, "", f"{argv[0]} cannot be started: {problem}"])
    return done


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
