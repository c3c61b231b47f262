"""Results in a real browser: points that come in, and lead to their tasks by pointer and by keys."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Lab, lab
from filled import fill

import matterstack as ms

EVIL = "</script><img src=x onerror=alert(1)>"
MAKE = f"""
import matterstack as ms
flow = ms.Workflow([ms.Task(f"mix{{n}}", "true") for n in range(300)])
run = ms.initialize_run("results", flow, config={{"target": {{"gap": "max", {EVIL!r}: "min"}}}})
"""


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


def given(*numbers: int) -> list[dict[str, Any]]:
    return [{"gap": n, EVIL: (n - 5) ** 2 + 1, "gas": ("air", EVIL)[n % 2]} for n in numbers]


def test_points_come_in_and_lead_to_their_tasks(jupyter: Lab) -> None:
    cells = [MAKE, "run.watch()", f"run.scatter('gap', {EVIL!r}, colour='gas')"]
    notebook = jupyter.open(jupyter.write("results.ipynb", *cells))
    notebook.run_all()
    page = notebook.page
    page.locator(".ms-scatter").nth(1).locator(".ms-empty:has-text('No result yet')").wait_for()
    (home,) = (jupyter.directory / "workspaces/results/runs").iterdir()
    run = ms.open_run(home)
    fill(run, given(1, 8, 4, 6))  # by another process, and the page follows
    page.click(".lm-TabBar-tabLabel:text-is('Results')")
    for place in range(2):
        scatter = page.locator(".ms-scatter").nth(place)
        scatter.locator(".ms-best button:has-text('0.mix1')").wait_for()
        assert scatter.locator(".ms-best tbody tr").count() == 2
    scatter.locator(".ms-bar:has-text('4 results')").first.wait_for()
    # By keys: along x, whatever came first.
    plot = scatter.locator(".ms-plot")
    plot.scroll_into_view_if_needed()
    plot.focus()
    told = []
    for key in ("Home", "ArrowRight", "ArrowRight", "End"):
        page.keyboard.press(key)
        told.append(scatter.locator(".ms-spoken").inner_text().partition(":")[0])
    assert told == ["0.mix0", "0.mix2", "0.mix3", "0.mix1"]
    page.keyboard.press("Enter")
    scatter.locator(".ms-panel:has-text('0.mix1')").wait_for()
    notebook.shot("results")
    page.keyboard.press("Escape")
    scatter.locator(".ms-panel").wait_for(state="hidden")
    # By the pointer: what is selected is selected in the kernel, and a link of the list selects, too.
    scatter.locator(".ms-best button:has-text('0.mix3')").click()
    scatter.locator(".ms-panel:has-text('0.mix3')").wait_for()
    page.keyboard.press("Escape")
    plot.focus()
    page.keyboard.press("Home")
    tip, area = scatter.locator(".ms-tip").bounding_box(), plot.bounding_box()
    page.keyboard.press("Escape")
    page.mouse.click(tip["x"] - 12, tip["y"] + 12)
    scatter.locator(".ms-panel:has-text('0.mix0')").wait_for()
    scatter.locator(".ms-panel button[title='close the panel']").click()
    # Zooming leaves out, and 0 brings back; axes are chosen live.
    before = scatter.locator(".ms-plot svg").inner_html()
    page.mouse.move(area["x"] + 200, area["y"] + 60)
    page.mouse.down()
    page.mouse.move(area["x"] + 300, area["y"] + 160, steps=3)
    page.mouse.up()
    page.wait_for_function("(old) => document.querySelectorAll('.ms-plot svg')[1].innerHTML !== old", arg=before)
    page.keyboard.press("0")
    page.wait_for_function("(old) => document.querySelectorAll('.ms-plot svg')[1].innerHTML === old", arg=before)
    scatter.locator("select[aria-label='x: column']").select_option("result")
    scatter.locator(".ms-title:has-text('in the order in which they came')").wait_for()
    # What is saved is what is drawn, with what came meanwhile.
    fill(run, given(9, 2))
    scatter.locator(".ms-bar:has-text('6 results')").first.wait_for()
    with page.expect_download() as download:
        scatter.locator("button[title='save as CSV']").click()
    saved = list(csv.reader(io.StringIO(Path(download.value.path()).read_text())))
    assert saved[0] == ["task", "result", EVIL, "gas"]
    assert [row[:3] for row in saved[5:]] == [["0.mix4", "5", "17"], ["0.mix5", "6", "10"]]
    with page.expect_download() as download:
        scatter.locator("button[title='save as PNG']").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    assert page.locator(".ms-scatter img").count() == 0
    # A page that is loaded again shows the same, and what it was not sent.
    notebook.save()
    page.reload()
    page.locator(".ms-scatter").nth(1).locator(".ms-bar:has-text('6 results')").first.wait_for()
    page.locator(".ms-scatter").nth(1).locator(".ms-title:has-text('in the order')").wait_for()
    notebook.close()
