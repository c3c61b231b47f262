"""One workload, run by MatterStack in this process: ``ours.py layers|chain N``."""

from __future__ import annotations

import sys

import matterstack as ms


def workload(kind: str, count: int) -> ms.Workflow:
    """Return N tasks of /bin/true: 10 layers with two dependencies each, or a chain."""
    flow = ms.Workflow()
    if kind == "chain":
        for n in range(count):
            flow.add_task(ms.Task(f"t{n}", ["/bin/true"], dependencies=[f"t{n - 1}"] if n else []))
        return flow
    width = count // 10
    for layer in range(10):
        for n in range(width):
            above = [f"t{layer - 1}.{n}", f"t{layer - 1}.{(n + 1) % width}"] if layer else []
            flow.add_task(ms.Task(f"t{layer}.{n}", ["/bin/true"], dependencies=above))
    return flow


if __name__ == "__main__":
    run = ms.initialize_run(
        "benchmark", workload(sys.argv[1], int(sys.argv[2])), operators={"local": ms.LocalOperator(max_active=2)}
    )
    assert run.wait() is ms.RunStatus.COMPLETED
    assert run.counts.completed == int(sys.argv[2])
