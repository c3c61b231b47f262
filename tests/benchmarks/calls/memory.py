"""What the process that carries out a task holds, as proc_pid_smaps(5) has it."""

from __future__ import annotations


def own_memory():
    """Return in kB what this process has for itself, and its proportional share (PSS)."""
    with open("/proc/self/smaps_rollup") as file:
        sizes = {line.split()[0]: int(line.split()[1]) for line in file.readlines()[1:]}
    return {"private_kB": sizes["Private_Clean:"] + sizes["Private_Dirty:"], "pss_kB": sizes["Pss:"]}
