"""The calls by MatterStack: each a process and a directory of its own, warm or fresh; or commands (``script``)."""

from __future__ import annotations

import sys
import time

from asked import asked, tell

import matterstack as ms

#: What a script does that stands for a call of `trivial`.
SCRIPT = """import json
given = json.load(open('in.json'))
json.dump({'value': 2.0 * given['x']}, open('result.json', 'w'))
"""


def workflow(mode, function, given):
    flow = ms.Workflow()
    if mode != "script":
        return flow, flow.map(function, given)
    for number, x in enumerate(given):
        files = {"script.py": SCRIPT, "in.json": f'{{"x": {x}}}'}
        flow.add_task(ms.Task(f"script-{number}", [sys.executable, "script.py"], files=files, group="script"))
    return flow, {}


if __name__ == "__main__":
    mode, function, given = asked()
    began = time.perf_counter()
    flow, calls = workflow(mode, function, given)
    run = ms.initialize_run("calls", flow, operators={"local": ms.LocalOperator(max_active=2, warm=mode == "warm")})
    assert run.wait() is ms.RunStatus.COMPLETED
    assert run.counts.completed == len(given)
    tell(began, [run.value(reference.task_id) for reference in calls.values()])
