"""The browser of an attempt in a real browser: logs as they grow, files, what they were made from, and the dialog."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Lab, lab

EVIL = "</script><img src=x onerror=alert(1)>"
SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='20' height='10' onload='alert(1)'><script>alert(1)</script></svg>"
#: A log of 20 MB, whose last line but one is found once.
MADE = f"""
import json, os
os.makedirs("out")
open("out/e.csv", "w").write("step,alloy\\n" + "".join(f"{{n}},{EVIL}\\n" for n in range(1500)))
json.dump({{"steps": list(range(12345)), {EVIL!r}: None, "deep": {{"er": [1.5]}}}}, open("result.json", "w"))
open("v.svg", "w").write({SVG!r})
for n in range(300_000):
    print(f"step {{n:6}}  energy {{-n / 7:.6f}} eV  \\x1b[31m{EVIL}\\x1b[0m")
print("The Needle")
print("end")
"""
SETUP = """
import sys
import matterstack as ms
flow = ms.Workflow([
    ms.Task("relax", f"{{sys.executable}} make.py", files={{"make.py": {made!r}}}),
    ms.Task("bands", "cat in.csv > b.csv; while read line; do echo got $line; done < {gate}",
            files={{"in.csv": ms.FromTask("relax", "out/e.csv")}}),
])
run = ms.initialize_run("browser", flow)
while run.tasks.loc["0.bands", "status"] != "SUBMITTED":
    run.step()
"""


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


def test_an_attempt_is_browsed(jupyter: Lab, tmp_path: Path) -> None:
    os.mkfifo(gate := tmp_path / "gate")
    cells = (
        SETUP.format(made=MADE, gate=gate),
        "run.browse('bands')",
        "run.browse('relax')",
        "run.dag()",
        "run.wait()",
    )
    notebook = jupyter.open(jupyter.write("browse.ipynb", *cells))
    page = notebook.page
    page.set_viewport_size({"width": 1400, "height": 2600})
    notebook.run_all()
    live, done = page.locator(".ms-browse").nth(0), page.locator(".ms-browse").nth(1)

    # The log of a running attempt grows while a cell waits, and stays where one reads when one has scrolled up.
    live.locator(".ms-browse-status:has-text('RUNNING')").wait_for()
    with open(gate, "w") as told:
        for number in range(200):
            print(number, file=told)
        told.flush()
        live.locator(".ms-log-box:has-text('got 199')").wait_for()
        bottom = "box => box.scrollTop + box.clientHeight >= box.scrollHeight - 4"
        assert live.locator(".ms-log-box").evaluate(bottom)
        live.locator(".ms-log-box").evaluate("box => { box.scrollTop = 100 }")
        live.locator("button:text-is('Follow')[aria-pressed='false']").wait_for()
        print("more " * 100, file=told)
        told.flush()
        live.locator(".ms-browse-bar:has-text('2.0 kB')").first.wait_for()
        assert live.locator(".ms-log-box").evaluate("box => box.scrollTop") == 100
        live.locator("button:text-is('Follow')").click()
        live.locator(".ms-log-box:has-text('got more')").wait_for()
    live.locator(".ms-browse-status:has-text('COMPLETED')").wait_for()
    assert live.locator("button:text-is('Follow')").is_hidden()

    # A long one: its beginning, its end, a place in between, and a word; the page has a few pages of it at most.
    box = done.locator(".ms-log-box")
    done.locator(".ms-log-box:has-text('step      0')").wait_for()
    assert f"\\x1b[31m{EVIL}\\x1b[0m" in box.inner_text()
    field = done.locator("input[type=search]")
    field.fill("the needle")
    field.press("Enter")
    done.locator(".ms-current:text-is('The Needle')").wait_for()
    done.locator("[role=status]:text-is('1 of 1')").wait_for()
    done.locator("button:text-is('Start')").click()
    done.locator(".ms-log-box:has-text('step      0')").wait_for()
    field.fill("step 299")
    field.press("Enter")
    done.locator("[role=status]:text-is('1 of 1,000')").wait_for()
    field.press("Shift+Enter")
    done.locator("[role=status]:text-is('1,000 of 1,000')").wait_for()
    done.locator(".ms-browse-area:has(.ms-current):has-text('step 299999')").wait_for()
    field.fill("not in it")
    field.press("Enter")
    done.locator("[role=status]:text-is('nothing found')").wait_for()
    field.press("Escape")
    box.focus()
    page.keyboard.press("Home")
    done.locator(".ms-log-box:has-text('step      0')").wait_for()
    page.keyboard.press("End")
    done.locator(".ms-log-box:has-text('The Needle')").wait_for()
    rail = done.locator(".ms-rail").bounding_box()
    page.mouse.click(rail["x"] + 8, rail["y"] + rail["height"] / 2)
    done.locator(".ms-log-box:has-text('step 150')").wait_for()
    for _ in range(30):
        page.mouse.wheel(0, 4000)
        page.mouse.move(rail["x"] - 200, rail["y"] + 50)
    assert box.evaluate("box => box.textContent.length") < 6 * 3 * 65536
    assert done.locator("*").count() < 3000
    with page.expect_download() as saving:
        done.locator("button[title='save it']").click()
        done.locator("[role=status]:has-text('press Save again')").wait_for()  # it is larger than 10 MB
        done.locator("button[title='save it']").click()
    (log,) = (jupyter.directory / "workspaces").rglob("0.relax.1/stdout.txt")
    assert Path(saving.value.path()).read_bytes() == log.read_bytes()

    # Files, walked by keys: a table, a tree, a picture of which nothing acts.
    files = done.locator("[role=tree][aria-label='files']")
    files.locator("[data-key='out']").click()
    files.locator("[data-key='out/e.csv']").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    done.locator(f".ms-data td:text-is('{EVIL}')").first.wait_for()
    done.locator(".ms-grid-box").evaluate("box => { box.scrollTop = box.scrollHeight }")
    done.locator(".ms-data td:text-is('999')").wait_for()
    assert done.locator(".ms-foot").inner_text() == "the first 1,000 rows; the file has more"
    assert done.locator("*").count() < 3000
    assert done.locator(".ms-browse-cell code").inner_text() == "run.file('relax', 'out/e.csv', iteration=0, attempt=1)"
    files.locator("[data-key='result.json']").click()
    tree = done.locator("[role=tree][aria-label='JSON']")
    tree.locator("[role=treeitem]:has-text('steps')").click()
    tree.locator("[role=treeitem]:has-text('10000 to 12344')").click()
    tree.locator("[role=treeitem]:has-text('12300 to 12344')").click()
    tree.locator("[role=treeitem]:has-text('1234412344')").wait_for()
    files.locator("[data-key='v.svg']").click()
    done.locator(".ms-foot:has-text('20 by 10 pixels')").wait_for()
    assert done.locator("img").get_attribute("src").startswith("data:image/svg+xml")
    notebook.shot("browse")

    # What it was made from leads to the attempt that it is of, and back.
    live.locator("[data-key=':links']").click()
    live.locator(".ms-browse-links .ms-link:text-is('0.relax.1')").click()
    live.locator(".ms-browse-title:text-is('0.relax')").wait_for()
    live.locator("button[title^='back to the attempt']").click()
    live.locator(".ms-browse-title:text-is('0.bands')").wait_for()

    # The dialog: opened from the panel of the graph, closed by Escape, and the focus is where it was.
    page.locator('.ms-node[data-key="0.bands"]').click()
    page.locator(".ms-panel [data-open]:text-is('stdout.txt')").first.click()
    page.locator("dialog .ms-log-box:has-text('got 199')").wait_for()
    notebook.shot("browse-dialog")
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    assert page.evaluate("document.activeElement.textContent") == "stdout.txt"
    assert page.locator(".ms-browse img, .ms-panel img").count() == 1, "that of the picture; no text has made another"
    notebook.close()
