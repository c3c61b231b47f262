"""The timeline in a real browser: it follows, grows, zooms, is walked by keys, and leads to the task."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Lab, Notebook, lab

import matterstack as ms


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


def setup(gates: Path) -> str:
    """Return a cell that makes a run: a task that waits at a gate, one after it, one that failed, and a question."""
    return f"""
import matterstack as ms
flow = ms.Workflow([
    ms.Task("relax-Al", "read word < {gates}/gate"),
    ms.Task("bands-Al", "read word < {gates}/next", dependencies=["relax-Al"]),
    ms.Task("relax-Xx", "exit 3", allow_failure=True),
    ms.Task("ask", operator="human", instructions="?"),
])
operators = {{"local": ms.LocalOperator(max_active=4), "human": ms.HumanOperator()}}
run = ms.initialize_run("time", flow, run_id="r", operators=operators)
run.step()
"""


def timeline(notebook: Notebook, inside: str = "") -> Any:
    notebook.page.wait_for_selector(f"{inside} .ms-timeline[data-bars]")
    view = notebook.page.locator(f"{inside} .ms-timeline").first
    view.scroll_into_view_if_needed()
    return view


#: Waits until what was asked for is drawn.
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
#: Which statuses the timeline ``it`` shows.
SHOWN = "[...it.querySelectorAll('.ms-time-key')].map((one) => one.textContent).slice(0, -1).join(' ')"


def wait(notebook: Notebook, what: str) -> None:
    """Wait until something is true of the timeline ``it``."""
    notebook.page.wait_for_function(f"() => {{ const it = document.querySelector('.ms-timeline'); return {what}; }}")


def test_the_timeline_follows_grows_zooms_and_leads_to_the_task(jupyter: Lab, tmp_path: Path) -> None:
    for name in ("gate", "next"):
        os.mkfifo(tmp_path / name)
    notebook = jupyter.open(jupyter.write("time.ipynb", setup(tmp_path), "run.timeline(by='group')", "run.watch()"))
    notebook.run_all()
    view = timeline(notebook)
    page, run = notebook.page, ms.open_run(jupyter.directory / "workspaces/time/runs/r")
    while set(run.attempts["status"]) != {"RUNNING", "FAILED", "WAITING"}:
        run.step()
    wait(notebook, f"{SHOWN} === 'running waiting failed' && it.dataset.bars === '3'")
    # By keys alone: to the first bar, which grows without a word of the kernel.
    canvas = view.locator("canvas")
    canvas.focus()
    page.keyboard.press("ArrowDown")
    assert "0.relax-Al · attempt 1 · running" in view.locator(".ms-time-tip").inner_text()
    before = float(view.get_attribute("data-sight"))
    wait(notebook, f"Number(it.dataset.sight) > {before}")
    page.keyboard.press("ArrowDown")
    assert "0.relax-Xx" in view.locator(".ms-time-said").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_selector(".ms-timeline .ms-panel:has-text('exit code 3')")
    page.keyboard.press("Escape")
    page.wait_for_selector(".ms-timeline .ms-panel", state="hidden")
    # Closer, and back to all.
    page.keyboard.press("+")  # from here on what is in sight grows no more
    page.evaluate(DRAWN)
    before = float(view.get_attribute("data-sight"))
    page.keyboard.press("+")
    wait(notebook, f"Number(it.dataset.sight) < {before}")
    closer = view.get_attribute("data-sight")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    wait(notebook, f"Number(it.dataset.sight) < {closer}")
    page.keyboard.press("0")
    wait(notebook, f"Number(it.dataset.sight) > {before}")
    # Another process steps: the bar ends, and that of the next task comes.
    (tmp_path / "gate").write_text("on\n")
    while run.tasks.loc["0.bands-Al", "status"] != "SUBMITTED":
        run.step()
    wait(notebook, f"it.dataset.bars === '4' && {SHOWN}.includes('completed')")
    # A click at the end of the first lane of the first group, which is that of relax-Al.
    box = canvas.bounding_box()
    page.mouse.click(box["x"] + 160, box["y"] + 30)
    page.wait_for_selector(".ms-timeline .ms-panel:has-text('0.relax-Al')")
    page.keyboard.press("Escape")
    view.locator("select").select_option("iteration")
    page.wait_for_selector(".ms-time-spent td:has-text('iteration 0')")
    notebook.shot("timeline")
    # The cockpit reads attempts when its timeline is seen.
    page.click(".lm-TabBar-tabLabel:text-is('Time')")
    inside = timeline(notebook, ".ms-cockpit")
    assert inside.get_attribute("data-bars") == "4"
    (tmp_path / "next").write_text("on\n")
    notebook.close()
