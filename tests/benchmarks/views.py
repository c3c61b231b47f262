"""How quick the views are, in a real browser: `python tests/benchmarks/views.py` prints a table.

It needs JupyterLab, Playwright and Chromium. Times are seen from the page: from
the start of the cell until it is drawn. A thousand tasks are drawn one by one, ten thousand in groups.
"""

from __future__ import annotations

import resource
import select
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from browser import Lab, Notebook, lab

MAKE = """
import matterstack as ms
flow = ms.Workflow()
layers = 10
for i in range({size}):
    at = i // ({size} // layers)
    before = [f"t{{(at - 1) * ({size} // layers) + (i + k) % ({size} // layers)}}" for k in (0, 7)] if at else []
    flow.add_task(ms.Task(f"t{{i}}", "true", dependencies=before, group=f"stage {{at}}"))
run = ms.initialize_run("bench", flow)
"""
#: Marks the moment a cell starts, and has the page note the moment it sees what is waited for.
WATCH = """([selector, number]) => new Promise((seen) => {
  const begin = performance.now();
  const look = () => {
    const cell = document.querySelectorAll('.jp-CodeCell')[number];
    if (cell && cell.querySelector(selector)) requestAnimationFrame(() => seen(performance.now() - begin));
    else requestAnimationFrame(look);
  };
  look();
})"""
#: The longest time between two frames while it runs.
FRAMES = """(ms) => new Promise((done) => {
  let last = performance.now(), longest = 0;
  const begin = last;
  const tick = (now) => {
    longest = Math.max(longest, now - last);
    last = now;
    if (now - begin > ms) done(longest); else requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
})"""


def shown_s(notebook: Notebook, number: int, selector: str) -> float:
    """Run the next cell, and return how long it takes until something is seen below it."""
    page = notebook.page
    page.locator(".jp-CodeCell").nth(number).locator(".jp-InputArea-editor").click()
    page.keyboard.press("Shift+Enter")
    return float(page.evaluate(WATCH, [selector, number])) / 1000


def written(directory: Path) -> float:
    """Return the number that a cell writes into a file."""
    spent = directory / "number.txt"
    until = time.monotonic() + 60
    while not spent.exists() and time.monotonic() < until:
        select.poll().poll(200)
    return float(spent.read_text())


def measure(jupyter: Lab, size: int) -> dict[str, float]:
    churn = """
import asyncio, random
store = run._session.store
async def churn():
    # Ten changes a second, in a copy of what the view shows: nothing is executed.
    from matterstack.core.changes import TaskChange
    from matterstack.core.states import TaskEvent, TaskStatus
    import time
    rows = list(view.board.cards)
    for number in range(50):
        with store.transaction():
            store.apply([TaskChange(rows[number], TaskStatus.PENDING, TaskEvent.CANCEL, time.time())], 0)
        await asyncio.sleep(0.1)
job = asyncio.get_running_loop().create_task(churn())
"""
    idle = """
import asyncio, time, pathlib
async def idle():
    await asyncio.sleep(2)
    before, begin = time.process_time(), time.monotonic()
    await asyncio.sleep(10)
    pathlib.Path("number.txt").write_text(str((time.process_time() - before) / (time.monotonic() - begin)))
job = asyncio.get_running_loop().create_task(idle())
"""
    (jupyter.directory / "number.txt").unlink(missing_ok=True)
    cells = (
        MAKE.format(size=size),
        f"view = run.dag(collapse={'tasks' if size <= 2000 else 'auto'!r})\nview",
        churn,
        "table = run.table()\ntable",
        "del job",
        idle,
    )
    notebook = jupyter.open(jupyter.write(f"bench{size}.ipynb", *cells))
    page = notebook.page
    shown_s(notebook, 0, ".jp-InputPrompt")
    page.wait_for_function("() => document.querySelectorAll('.jp-InputPrompt')[0].textContent.includes('[1]')")
    found = {"dag_s": shown_s(notebook, 1, ".ms-node")}
    shown_s(notebook, 2, ".jp-InputPrompt")
    found["longest_frame_ms"] = float(page.evaluate(FRAMES, 5000))
    found |= table(notebook, 3)
    shown_s(notebook, 4, ".jp-InputPrompt")
    shown_s(notebook, 5, ".jp-InputPrompt")
    found["idle_core"] = written(jupyter.directory)
    notebook.close()
    return found


def table(notebook: Notebook, number: int) -> dict[str, float]:
    """Run a cell that shows a table, and filter it: seconds until its first row, milliseconds until the answer."""
    page = notebook.page
    shown = {"table_s": shown_s(notebook, number, ".ms-row")}
    page.fill("input[aria-label='filter by text']", "t77")
    page.wait_for_function(
        "() => { const [a, b] = document.querySelector('.ms-table [role=status]').textContent.split(' of ');"
        " return a !== b; }"
    )
    return shown | {"filter_ms": float(page.locator(".ms-table").get_attribute("data-found-ms"))}


def large_table(jupyter: Lab, size: int) -> dict[str, float]:
    """Return what a table alone costs and how much of it is sent to each page."""
    cells = (
        MAKE.format(size=size),
        "table = run.table()\ntable",
        "import json, pathlib\nstate = json.dumps(table.get_state(), default=str)\n"
        "pathlib.Path('number.txt').write_text(str(len(state) / 1e6))",
    )
    (jupyter.directory / "number.txt").unlink(missing_ok=True)
    notebook = jupyter.open(jupyter.write(f"table{size}.ipynb", *cells))
    page = notebook.page
    shown_s(notebook, 0, ".jp-InputPrompt")
    page.set_default_timeout(300_000)
    page.wait_for_function("() => document.querySelectorAll('.jp-InputPrompt')[0].textContent.includes('[1]')")
    found = table(notebook, 1)
    shown_s(notebook, 2, ".jp-InputPrompt")
    found["sent_MB"] = written(jupyter.directory)
    notebook.close()
    return found


def main() -> None:
    goals = {1000: {"dag_s": 1.0}, 10000: {"dag_s": 3.0, "filter_ms": 200, "idle_core": 0.01}}
    with tempfile.TemporaryDirectory() as directory, lab(Path(directory)) as jupyter:
        print("| tasks | what | measured | goal |\n|---|---|---|---|")
        for size in (1000, 10000):
            for what, value in measure(jupyter, size).items():
                goal = goals[size].get(what)
                print(f"| {size} | {what} | {value:.3g} | {'' if goal is None else f'at most {goal:g}'} |", flush=True)
        for what, value in large_table(jupyter, 100000).items():
            print(f"| 100000 | {what} | {value:.3g} | |", flush=True)
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main()
