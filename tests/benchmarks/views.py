"""How quick and how small the views are: `python tests/benchmarks/views.py [--before COMMIT]` prints a table.

First pictures are seen from the page of a real JupyterLab in headless Chromium: from the start of the cell until
something of it is drawn. What a kernel needs is measured in a process without one, each time a new one; with
``--before`` those of another commit take turns with these.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from browser import Lab, Notebook, lab
from large_run import large_run

HERE = Path(__file__).parents[2]
TIMES = 9
#: What is the first picture of a view: rows; how many tasks stand how; where the run stands.
FIRST = {"table": ".ms-row", "dag": ".ms-legend button", "watch": ".ms-head-counts .ms-count"}
#: Seconds, by tasks.
GOAL_S = {1000: 0.3, 100_000: 0.5}
#: Marks the moment a cell starts, and has the page note the moment it sees what is waited for.
WATCH = """([selector, number]) => { window.seen = new Promise((seen) => {
  let begin = 0;
  window.addEventListener("keydown", (event) => { if (event.key === "Enter") begin = performance.now(); }, true);
  const look = () => {
    const cell = document.querySelectorAll('.jp-CodeCell')[number];
    if (begin && cell && cell.querySelector(selector)) requestAnimationFrame(() => seen(performance.now() - begin));
    else requestAnimationFrame(look);
  };
  look();
}); }"""
ENDED = """(number) => {
  const cell = document.querySelectorAll('.jp-CodeCell')[number];
  return cell && /\\d/.test(cell.querySelector('.jp-InputPrompt').textContent);
}"""
#: How many elements a view has in its page.
HELD = """(number) => {
  const views = [...document.querySelectorAll('.jp-CodeCell')[number].querySelectorAll('.jp-OutputArea-output')];
  return views.reduce((sum, view) => sum + view.querySelectorAll('*').length, 0);
}"""
IDLE = """
import asyncio, time, pathlib
async def idle():
    await asyncio.sleep(15)  # nothing has changed for a while
    before, begin = time.process_time(), time.monotonic()
    await asyncio.sleep(10)
    pathlib.Path("number.txt").write_text(str((time.process_time() - before) / (time.monotonic() - begin)))
job = asyncio.get_running_loop().create_task(idle())
"""
#: A view in a process of its own, as in a kernel: how long until it is there, until all is read, how long anything else
#: had to wait meanwhile, and the memory that was taken for it.
KERNEL = """
import asyncio, json, sys, time
import matterstack as ms
def memory_MB():
    lines = dict(line.split(":") for line in open("/proc/self/status") if line.startswith("Vm"))
    return [int(lines[name].split()[0]) * 1.024e-3 for name in ("VmRSS", "VmHWM")]
async def main(view, path, small):
    first = getattr(ms.open_run(small), view)()
    first._repr_mimebundle_()
    del first
    run, (before, _) = ms.open_run(path), memory_MB()
    longest = 0.0
    async def beat():
        nonlocal longest
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - begin - 0.005)
    heart = asyncio.ensure_future(beat())
    begin = time.perf_counter()
    shown = getattr(run, view)()
    shown._repr_mimebundle_()
    there = time.perf_counter() - begin
    while getattr(shown.follower, "reads", False):
        await asyncio.sleep(0.01)
    whole = time.perf_counter() - begin
    found = {"there_s": there, "whole_s": whole}
    if view == "table":
        for by in ("task", "since"):
            begin = time.perf_counter()
            shown._heard(None, {"change": {"asked": {"by": by, "first": 0, "number": by}}}, None)
            while shown.window["number"] != by:
                await asyncio.sleep(0.005)
            found[f"by_{by}_s"] = time.perf_counter() - begin
    await asyncio.sleep(0.05)
    kept, most = memory_MB()
    print(json.dumps(found | {"longest_wait_s": longest, "kept_MB": kept - before, "most_MB": most - before}))
    sys.stdout.flush()
    heart.cancel()
    shown.follower.task.cancel()
asyncio.run(main(*sys.argv[1:]))
"""


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def row(size: int, what: str, measured: str, goal: str = "") -> None:
    print(f"| {size:,} | {what} | {measured} | {goal} |", flush=True)


# -- in the browser --------------------------------------------------------------------------


def shown_s(notebook: Notebook, number: int, selector: str) -> float:
    """Run the next cell, and return how long it takes until something is seen below it."""
    page = notebook.page
    page.locator(".jp-CodeCell").nth(number).locator(".jp-InputArea-editor").click()
    page.evaluate(WATCH, [selector, number])
    page.keyboard.press("Shift+Enter")
    return float(page.evaluate("() => window.seen")) / 1000


def ran(notebook: Notebook, number: int) -> None:
    """Run the next cell to its end."""
    shown_s(notebook, number, ".jp-InputPrompt")
    notebook.page.wait_for_function(ENDED, arg=number)


def first_pictures(jupyter: Lab, view: str, size: int, paths: Sequence[Path]) -> None:
    """Print how long it takes from the start of a cell to the first picture: in a new kernel, and in one with views."""
    cells = [f"ms.open_run({str(path)!r}).{view}()" for path in paths]
    notebook = jupyter.open(jupyter.write(f"{view}{size}.ipynb", "import matterstack as ms", *cells))
    ran(notebook, 0)
    took, drawn = [], []
    for number in range(1, len(cells) + 1):
        took.append(shown_s(notebook, number, FIRST[view]))
        begun = time.monotonic()
        cell = notebook.page.locator(".jp-CodeCell").nth(number)
        cell.locator(".ms-row, .ms-node").first.wait_for(state="attached")
        drawn.append(took[-1] + time.monotonic() - begun)
    held = notebook.page.evaluate(HELD, len(cells))
    notebook.close()
    goal = f"at most {GOAL_S[size]:g}" if size in GOAL_S else ""
    row(size, f"`run.{view}()`: first picture in a kernel without views, s", f"{took[0]:.3g}")
    if took[1:]:
        row(size, f"`run.{view}()`: first picture after that, s", spread(took[1:]), goal)
    if view != "table":
        row(size, f"`run.{view}()`: its graph is there, s", spread(drawn))
    row(size, f"`run.{view}()`: elements in the page", str(held), "fewer than 3000")


def idle(jupyter: Lab, path: Path) -> None:
    spent = jupyter.directory / "number.txt"
    spent.unlink(missing_ok=True)
    show = f"import matterstack as ms\ncockpit = ms.open_run({str(path)!r}).watch()\ncockpit"
    notebook = jupyter.open(jupyter.write("idle.ipynb", show, IDLE))
    shown_s(notebook, 0, ".ms-node")
    ran(notebook, 1)
    until = time.monotonic() + 60
    while not spent.exists() and time.monotonic() < until:
        select.poll().poll(200)
    row(1000, "a cockpit of a run that runs, where nothing changes: parts of a core", spent.read_text()[:7], "0.002")
    notebook.close()


# -- in the kernel ---------------------------------------------------------------------------


def in_kernel(view: str, path: Path, small: Path, code: Path) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": str(code)}
    command = [sys.executable, "-c", KERNEL, view, str(path), str(small)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=600)
    return dict(json.loads(done.stdout))


def kernels(size: int, path: Path, small: Path, codes: dict[str, Path]) -> None:
    """Print what views take of a kernel, this code and that before in turns."""
    for view in ("table", "dag"):
        found: dict[str, list[dict[str, float]]] = {name: [] for name in codes}
        for _ in range(TIMES):
            for name, code in codes.items():
                found[name].append(in_kernel(view, path, small, code))
        for name, runs in found.items():
            for what in runs[0]:
                goal = "at most 300" if what == "most_MB" and name == "now" else ""
                row(size, f"`run.{view}()` {name}: {what}", spread([run[what] for run in runs]), goal)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", metavar="COMMIT", help="measure what a kernel needs with that code, too")
    parser.add_argument("--kernel", action="store_true", help="leave out what is seen in the browser")
    asked = parser.parse_args()
    print("| tasks | what | median (least to most) | goal |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="views", dir="/tmp") as place:
        base = Path(place)
        small = large_run(base, 1000, "small").path
        million = large_run(base, 1_000_000).path
        with lab(base) as jupyter:
            for size in (1000, 100_000) if not asked.kernel else ():
                paths = [large_run(base, size, f"{size}-{number}").path for number in range(TIMES + 1)]
                for view in FIRST:
                    first_pictures(jupyter, view, size, paths)
            if not asked.kernel:
                first_pictures(jupyter, "table", 1_000_000, [million])
                idle(jupyter, small)
        codes = {"now": HERE}
        if asked.before is not None:
            codes = {"before": base / "before", **codes}
            add = ["git", "worktree", "add", "-f", "--detach", codes["before"], asked.before]
            subprocess.run(add, cwd=HERE, check=True, capture_output=True)
        try:
            kernels(1_000_000, million, small, codes)
        finally:
            if asked.before is not None:
                subprocess.run(["git", "worktree", "remove", "--force", codes["before"]], cwd=HERE, check=True)


if __name__ == "__main__":
    main()
