"""The campaign by MatterStack: ``ours.py``, and to go on ``ours.py RUN_DIRECTORY``."""

from __future__ import annotations

import sys

import copper

import matterstack as ms

if len(sys.argv) > 1:
    run = ms.open_run(sys.argv[1])
else:
    flow = ms.Workflow()
    members = flow.map(ms.task(allow_failure=True)(copper.energy), copper.cells())
    flow.add("fit", ms.task(allow_dependency_failure=True)(copper.fit), list(members.values()))
    run = ms.initialize_run("copper", flow)

print("status:", run.wait(), run.reason)
print("fit:", run.value("fit"))
print(run.tasks[["status", "reason"]].to_string())
