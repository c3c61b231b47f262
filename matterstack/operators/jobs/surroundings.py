"""Surroundings of jobs, looked at and left as they are: a host that ssh reaches, and a Slurm."""

from __future__ import annotations

import re
import shlex
import shutil
import time
from collections.abc import Iterator

from matterstack.core.diagnosis import Diagnosis, weak, well, wrong
from matterstack.errors import OperatorUnreachableError
from matterstack.operators.jobs.sites import Command, Done, Here, Site, Ssh

_TIMEOUT_S = 30.0
_PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol")
_SAID = "matterstack-doctor"
_MOST_SKEW_S = 60.0
_SHORTEST_MEMORY_S = 60
_LEAST_KIB = 1 << 20
#: Where a probe works on a host: in its home, where it makes nothing.
_ROOT = "."


# -- ssh ---------------------------------------------------------------------------------------------


def examine_ssh(host: str, python: str = "python3") -> list[Diagnosis]:
    """Look whether ssh reaches a host as `SlurmOperator` uses it, and what is there.

    Parameters
    ----------
    host : str
        As ``ssh`` takes it.
    python : str
        Name or path of a Python there.
    """
    if missing := [name for name in ("ssh", "rsync") if shutil.which(name) is None]:
        why = f"there is no {' and no '.join(missing)} on this machine, by which files and commands go to a host"
        return [wrong("programs here", why, "install OpenSSH's client and rsync")]
    ssh = Ssh(host, _ROOT, python)
    try:
        return [well("programs here", "ssh and rsync are there"), *_host(ssh)]
    except OperatorUnreachableError as error:
        remedy = "make `ssh -o BatchMode=yes HOST true` work: a key or an agent, a known host key, or a login by hand"
        return [wrong("reaching it", str(error), remedy)]


def _host(ssh: Ssh) -> Iterator[Diagnosis]:
    # For any login shell, in one session: a line each, with a name before it.
    python = f"{shlex.quote(ssh.python)} -c 'import sys; print(*sys.version_info[:2])'"
    asked = {"date": "date +%s", "python": python, "rsync": "command -v rsync", "room": "df -Pk . | tail -n 1"}
    script = "; ".join(f'echo "{_SAID} {name} $({line} 2>/dev/null)"' for name, line in asked.items())
    began = time.time()
    output = ssh.shell(f"/bin/sh -c {shlex.quote(script)}", _TIMEOUT_S).output
    ended = time.time()
    lines = [line.split() for line in output.splitlines() if line.startswith(f"{_SAID} ")]
    told = {line[1]: line[2:] for line in lines}
    yield well("reaching it", f"ssh comes in without asking anything, in {ended - began:.1f} s")
    if printed := output.partition(_SAID)[0].strip():
        why = f"a login that is no terminal prints {printed[:100]!r}, which rsync takes for its protocol"
        yield wrong("its shell", why, "let ~/.bashrc there print only in a terminal: [[ $- == *i* ]] || return")
    else:
        yield well("its shell", "it prints nothing of its own")
    if (now := "".join(told.get("date", []))).isdigit():
        skew = max(began - int(now) - 1, int(now) - ended, 0.0)
        seen = f"its clock differs from this machine's by {skew:.0f} s"
        remedy = "have both machines set their clocks by one server (chrony or ntp)"
        late = weak("its clock", f"{seen}, and times in tables with it", remedy)
        yield late if skew > _MOST_SKEW_S else well("its clock", seen)
    yield _python(ssh.python, told.get("python", []))
    if told.get("rsync"):
        yield well("rsync there", "it is there")
    else:
        yield wrong(
            "rsync there", "it is not in PATH there, so no file goes there or comes home", "install rsync there"
        )
    room = told.get("room", [])
    if len(room) > 3 and room[3].isdigit():
        seen = f"{int(room[3]) / 1024**2:.1f} GiB are free in its home"
        little = weak("room there", f"{seen}: results need more", "remove something, or set root= to another place")
        yield well("room there", f"{seen}; a quota may allow less") if int(room[3]) > _LEAST_KIB else little


def _python(name: str, version: list[str]) -> Diagnosis:
    remedy = "name one of 3.8 or newer: SlurmOperator(python=...), or --python here"
    if len(version) != 2 or not all(word.isdigit() for word in version):
        return wrong("Python there", f"{name} does not start there, and it carries out what is asked", remedy)
    text = f"{name} is Python {'.'.join(version)}"
    is_new = (int(version[0]), int(version[1])) >= (3, 8)
    return well("Python there", text) if is_new else wrong("Python there", f"{text}, which is too old", remedy)


# -- Slurm -------------------------------------------------------------------------------------------


def examine_slurm(host: str | None = None, python: str = "python3") -> list[Diagnosis]:
    """Look whether a Slurm answers, and what it says of itself; nothing is submitted.

    Parameters
    ----------
    host : str, optional
        Where ssh leads; by default this machine.
    python : str
        Name or path of a Python there.
    """
    site: Site = Here() if host is None else Ssh(host, _ROOT, python)
    try:
        return list(_slurm(site))
    except OperatorUnreachableError as error:
        return [
            wrong("Slurm", f"it cannot be asked: {error}", f"look at the host first: matterstack doctor --ssh {host}")
        ]


def _slurm(site: Site) -> Iterator[Diagnosis]:
    commands = [
        Command(["sbatch", "--version"]),
        Command(["squeue", "--me", "--format=%A"]),
        Command(["sinfo", "--noheader", "--format=%P|%a|%l|%D"]),
        Command(["scontrol", "show", "config"]),
        Command(["sacct", "--allocations", "--parsable2", "--starttime=now-60", "--format=JobIDRaw"]),
    ]
    version, queue, partitions, config, accounting = site.run(commands, _TIMEOUT_S)
    if version.code != 0:
        why = f"sbatch does not start ({_last(version)}), so no job can be submitted"
        yield wrong("Slurm", why, "load its module or set PATH where runs are stepped, or name a host: --ssh HOST")
        return
    yield well("Slurm", version.output.strip())
    if queue.code != 0 or "JOBID" not in queue.output:
        why = f"squeue does not answer ({_last(queue)}): nothing is submitted, and nobody knows how jobs stand"
        yield wrong("its queue", why, "look whether slurmctld runs (scontrol ping); runs go on when it answers again")
    else:
        yield well("its queue", f"squeue shows {len(queue.output.split()) - 1} jobs of yours")
    yield _partitions(partitions)
    settings = dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", config.output, re.MULTILINE))
    yield from _accounting(accounting, settings)
    limits = {name: settings[name] for name in ("MaxArraySize", "MaxJobCount", "MinJobAge") if name in settings}
    if limits:
        yield well("its limits", ", ".join(f"{name} {value}" for name, value in limits.items()))


def _partitions(done: Done) -> Diagnosis:
    rows = [line.split("|") for line in done.output.splitlines() if line.count("|") == 3]
    up = [name for name, state, *_ in rows if state == "up"]
    if done.code != 0 or not up:
        why = f"sinfo shows none that is up ({_last(done)}), so jobs wait for ever"
        return wrong("its partitions", why, "ask who runs the cluster; sinfo --summarize shows its nodes")
    shown = ", ".join(f"{name} ({nodes} nodes, {limit})" for name, state, limit, nodes in rows if state == "up")
    return well("its partitions", f"{shown}; * is the default")


def _accounting(done: Done, settings: dict[str, str]) -> Iterator[Diagnosis]:
    memory = re.match(r"\d+", settings.get("MinJobAge", ""))
    if done.code == 0 and "JobID" in done.output:
        yield well("its accounting", "sacct tells of jobs that the queue has forgotten")
        return
    is_off = "disabled" in done.error
    why = "accounting is off" if is_off else f"sacct does not answer ({_last(done)})"
    if memory is not None and int(memory[0]) < _SHORTEST_MEMORY_S:
        why += f", and the queue forgets a job {memory[0]} s after its end"
    why += ": of a job that left no file, nobody can tell how it ended"
    yield weak("its accounting", why, "nothing has to be done: what jobs leave is read. A longer MinJobAge helps")


def _last(done: Done) -> str:
    lines = [line.strip() for line in (done.error or done.output).splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"
