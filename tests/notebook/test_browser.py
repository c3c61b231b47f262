"""The views in a real browser: headless Chromium before a real JupyterLab."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Lab, Notebook, lab

import matterstack as ms

EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


#: How many icons of something broken there are in what a selector names.
BROKEN = """(inside) => [...document.querySelectorAll(`${inside}.jupyter-widgets-disconnected, ${inside} .jupyter-widgets-disconnected`)]
  .filter((part) => getComputedStyle(part, '::before').display !== 'none').length"""


def setup(gates: Path) -> str:
    """Return a cell that makes a run: three tasks that wait at gates, one that fails, and a question."""
    return f"""
import matterstack as ms
schema = {{
    "type": "object",
    "properties": {{
        "count": {{"type": "integer", "minimum": 1, "maximum": 9, "description": "how many", "unit": "eV"}},
        "colour": {{"enum": ["red", "green"]}},
        "sure": {{"type": "boolean"}},
        "notes": {{"type": "array", "items": {{"type": "string", "minLength": 2}}, "maxItems": 3}},
        "inner": {{"type": "object", "properties": {{"depth_A": {{"type": "number"}}}}, "required": ["depth_A"]}},
    }},
    "required": ["count", "colour", "sure", "inner"],
    "additionalProperties": False,
}}
flow = ms.Workflow()
for i in range(3):
    flow.add_task(ms.Task(f"relax{{i}}", f"echo hello from $MATTERSTACK_TASK_ID; cat {gates}/gate{{i}}; echo '{{{{\\"energy_eV\\": -1.5}}}}' > result.json"))
    flow.add_task(ms.Task(f"bands{{i}}", "true", dependencies=[f"relax{{i}}"]))
flow.add_task(ms.Task("bad", "echo '{EVIL}' >&2; exit 3", allow_failure=True))
flow.add_task(ms.Task("ask", operator="human", instructions="# Which? {EVIL}", schema=schema, assignee="Ada"))
run = ms.initialize_run("browser", flow, operators={{"local": ms.LocalOperator(max_active=4), "human": ms.HumanOperator()}})
"""


@pytest.fixture
def gates(tmp_path: Path) -> Path:
    for number in range(3):
        os.mkfifo(tmp_path / f"gate{number}")
    return tmp_path


def release(gates: Path, number: int) -> None:
    """Let a task go on; it has to be waiting."""
    with open(gates / f"gate{number}", "w") as gate:
        gate.write("on\n")


def latest_run(jupyter: Lab) -> ms.Run:
    return ms.open_run(
        sorted((jupyter.directory / "workspaces/browser/runs").iterdir(), key=lambda p: p.stat().st_mtime)[-1]
    )


def node(notebook: Notebook, name: str, status: str | None = None) -> Any:
    wanted = f'.ms-node[data-key="{name}"]' + (f'[data-status="{status}"]' if status else "")
    notebook.page.wait_for_selector(wanted, state="attached")
    return notebook.page.locator(wanted).first


def go_to_view(notebook: Notebook, selector: str = ".ms-canvas") -> None:
    notebook.page.wait_for_selector(selector, state="attached")
    notebook.page.locator(selector).first.scroll_into_view_if_needed()


def until_running(run: ms.Run, name: str) -> None:
    """Step until a command has begun, which may be after the step that follows the one which submitted it."""
    while run.attempts.loc[f"{name}.1", "status"] != "RUNNING":
        run.step()


def test_nodes_change_while_no_cell_runs_and_a_click_tells_all(jupyter: Lab, gates: Path) -> None:
    notebook = jupyter.open(jupyter.write("free.ipynb", setup(gates), "run.step()", "run.dag()"))
    notebook.run_all()
    node(notebook, "0.relax0")
    go_to_view(notebook)
    run = latest_run(jupyter)  # another process steps, and the view follows
    until_running(run, "0.relax0")
    node(notebook, "0.relax0", "RUNNING")
    release(gates, 0)
    while run.tasks.loc["0.relax0", "status"] != "COMPLETED":
        run.step()
    node(notebook, "0.relax0", "COMPLETED")
    node(notebook, "0.bad", "FAILED")
    node(notebook, "0.ask", "WAITING")
    notebook.page.locator('.ms-node[data-key="0.relax0"]').click()
    notebook.page.wait_for_selector(".ms-panel:has-text('hello from relax0')")
    panel = notebook.page.inner_text(".ms-panel")
    for text in ("COMPLETED", "echo hello", "stdout.txt", "energy_eV", "bands0", "exit code"):
        assert text in panel
    notebook.page.locator(".ms-canvas").focus()
    notebook.page.keyboard.press("ArrowRight")
    notebook.page.wait_for_selector(".ms-panel:has-text('0.bands0')")
    notebook.page.fill(".ms-bar input", "relax")
    assert notebook.page.locator(".ms-node.ms-dim").count() == 5
    notebook.page.fill(".ms-bar input", "")
    before = notebook.page.get_attribute(".ms-canvas", "viewBox")
    notebook.page.click("button[title='zoom in']")
    assert notebook.page.get_attribute(".ms-canvas", "viewBox") != before
    notebook.page.click("button[title='show all']")
    legend = notebook.page.inner_text(".ms-legend")
    assert "1 failed" in legend
    assert "1 waiting" in legend
    notebook.page.locator('.ms-node[data-key="0.bad"]').click()
    notebook.page.wait_for_selector(".ms-panel:has-text('onerror=alert(1)')")
    notebook.shot("dag")
    assert notebook.errors == [], "text of a task did something"
    assert notebook.page.locator(".ms-panel img").count() == 0
    # The page is loaded again, while the kernel lives: the view is there, and up to date.
    notebook.save()
    release(gates, 1)
    while run.tasks.loc["0.relax1", "status"] != "COMPLETED":
        run.step()
    notebook.page.reload()
    node(notebook, "0.relax1", "COMPLETED")
    notebook.close()
    release(gates, 2)
    run.cancel()


def test_nodes_change_while_a_cell_blocks(jupyter: Lab, gates: Path) -> None:
    notebook = jupyter.open(jupyter.write("blocked.ipynb", setup(gates), "run.dag()", "run.wait()"))
    notebook.run_all()
    node(notebook, "0.relax0", "RUNNING")
    go_to_view(notebook)
    release(gates, 0)
    node(notebook, "0.relax0", "COMPLETED")
    node(notebook, "0.bands0", "COMPLETED")
    node(notebook, "0.relax1", "RUNNING")
    notebook.shot("while-a-cell-blocks")
    release(gates, 1)
    release(gates, 2)
    node(notebook, "0.bands2", "COMPLETED")
    assert notebook.errors == []
    notebook.close()


MANY = """
import matterstack as ms
flow = ms.Workflow()
for i in range({size}):
    flow.add_task(ms.Task(f"relax-{{i:03}}", "true"))
    flow.add_task(ms.Task(f"bands-{{i:03}}", "true", dependencies=[f"relax-{{i:03}}"]))
flow.add_task(ms.Task("compare", "true", dependencies=[f"bands-{{i:03}}" for i in range({size})]))
run = ms.initialize_run("browser", flow)
"""
#: Height of the smallest text of the drawing in pixels, how wide the drawing is, and whether all of it is seen.
SEEN = """() => {
  const svg = document.querySelector('.ms-canvas'), scale = svg.clientWidth / svg.viewBox.baseVal.width;
  const px = [...svg.querySelectorAll('text')].map((text) => parseFloat(getComputedStyle(text).fontSize) * scale);
  const box = svg.querySelector('.ms-node').getBoundingClientRect();
  return { smallest: Math.min(...px), largest: Math.max(...px), node: box.width, map: !document.querySelector('.ms-map').hidden };
}"""

#: Whether a node is all in sight.
INSIDE = """(node) => {
  const [found, stage] = [node, '.ms-stage'].map((name) => document.querySelector(name)?.getBoundingClientRect());
  return found && stage.left <= found.left && found.right <= stage.right && stage.top <= found.top && found.bottom <= stage.bottom;
}"""


def test_a_graph_of_any_size_can_be_read_searched_opened_and_closed(jupyter: Lab) -> None:
    notebook = jupyter.open(jupyter.write("many.ipynb", MANY.format(size=150), "run.dag()"))
    notebook.run_all()
    page = notebook.page
    node(notebook, "0:relax")
    go_to_view(notebook)

    def seen() -> Any:
        return page.evaluate(SEEN)

    def hint(text: str) -> None:
        page.wait_for_selector(f"[aria-label='found']:has-text('{text}')")

    assert page.locator(".ms-node").count() == 3, "two groups of 150, by their stem, and a task"
    first = seen()
    assert 11 <= first["smallest"] <= first["largest"] <= 14
    assert not first["map"], "all of it is seen"
    # Search looks into closed groups, says how much it found, opens one and goes there.
    search = page.locator("input[aria-label='find a task']")
    search.fill("no such")
    hint("nothing found")
    search.fill("bands-14")
    hint("10 found, 10 in closed groups")
    assert page.locator(".ms-node:not(.ms-dim)").count() == 1
    search.press("Enter")
    page.wait_for_selector(".ms-panel h4:has-text('0.bands-140')")
    page.wait_for_function(INSIDE, arg='.ms-node[data-key="0.bands-140"].ms-selected')
    search.press("Enter")  # the next
    page.wait_for_selector(".ms-panel h4:has-text('0.bands-141')")
    search.fill("")
    opened = seen()
    assert opened["smallest"] >= 10.99, "what is large is moved, never made too small"
    assert opened["map"]
    notebook.shot("graph-opened")
    for _ in range(12):
        page.click("button[title='zoom out']")
    assert seen()["smallest"] >= 10.99
    # The map leads anywhere.
    before = page.get_attribute(".ms-canvas", "viewBox")
    page.locator(".ms-map").click(position={"x": 5, "y": 5})
    assert page.get_attribute(".ms-canvas", "viewBox") != before
    # A group closes again, and the panel too.
    page.click("button[title='close the panel']")
    page.wait_for_selector(".ms-panel", state="hidden")
    page.click("button[title='close bands']")
    node(notebook, "0:bands")
    assert page.locator(".ms-node").count() == 3
    # In full screen there is room for more, and its height can be dragged.
    page.set_viewport_size({"width": 900, "height": 900})
    page.click("button[title='full screen, and back']")
    page.wait_for_function("() => document.querySelector('.ms-stage').clientHeight > 700")
    notebook.shot("graph-full-screen")
    page.click("button[title='full screen, and back']")
    page.wait_for_function(
        "() => !document.fullscreenElement && document.querySelector('.ms-stage').clientHeight < 600"
    )
    page.locator(".ms-stage").scroll_into_view_if_needed()  # which waits until it moves no more
    stage = page.locator(".ms-stage").bounding_box()
    page.mouse.move(stage["x"] + stage["width"] - 4, stage["y"] + stage["height"] - 4)
    page.mouse.down()
    page.mouse.move(stage["x"] + stage["width"] - 4, stage["y"] + stage["height"] + 150, steps=4)
    page.mouse.up()
    assert page.locator(".ms-stage").bounding_box()["height"] > stage["height"] + 100
    notebook.close()


def test_a_click_moves_nothing_and_output_is_shown_as_it_grows(jupyter: Lab, gates: Path) -> None:
    script = f"echo first; cat {gates}/gate0; echo second; cat {gates}/gate1; echo third; cat {gates}/gate2"
    cells = (
        f"""
import matterstack as ms
flow = ms.Workflow([ms.Task("talks", {script!r}, group="pair"), ms.Task("after", "true", group="pair", dependencies=["talks"])])
run = ms.initialize_run("browser", flow)
run.step()""",
        "run.dag()",
        "import threading, asyncio\nawait asyncio.to_thread(__import__('pathlib').Path('go').read_text)\nrun.wait()",
    )
    os.mkfifo(jupyter.directory / "go")
    notebook = jupyter.open(jupyter.write("talks.ipynb", *cells))
    notebook.run_all()
    page = notebook.page
    node(notebook, "0.talks")
    go_to_view(notebook)
    run = latest_run(jupyter)
    target = page.locator('.ms-node[data-key="0.talks"] text')
    before = target.bounding_box()
    target.click()
    page.wait_for_selector(".ms-panel:has-text('first')")
    assert target.bounding_box() == before, "the first click moves nothing"
    page.wait_for_selector(".ms-panel h4:has-text('SUBMITTED')")
    until_running(run, "0.talks")
    page.wait_for_selector(".ms-panel h4:has-text('RUNNING')")
    release(gates, 0)  # nothing is written to the store
    page.wait_for_selector(".ms-panel .ms-output:has-text('second')")
    (jupyter.directory / "go").write_text("on")  # from here on the cell blocks
    page.wait_for_selector(".jp-OutputArea [aria-label='progress']")
    release(gates, 1)
    page.wait_for_selector(".ms-panel .ms-output:has-text('third')")
    assert page.locator(".jp-InputPrompt:text-is('[*]:')").count() == 1, "the cell still blocks"
    notebook.shot("panel-while-a-cell-blocks")
    release(gates, 2)
    page.wait_for_selector(".ms-panel h4:has-text('COMPLETED')")
    page.locator(".ms-canvas").focus()
    page.keyboard.press("Escape")
    page.wait_for_selector(".ms-panel", state="hidden")
    # A group says what is in it.
    page.select_option("select[aria-label='collapse by']", "group")
    node(notebook, "0:pair").click()
    page.wait_for_selector(".ms-panel:has-text('pair: 2 tasks')")
    assert "0.after" in page.inner_text(".ms-panel")
    notebook.shot("panel-of-a-group")
    page.click("button:text-is('show the 2 tasks')")
    node(notebook, "0.after")
    notebook.close()


def test_the_table_is_filtered_and_sorted_and_selects_with_the_graph(jupyter: Lab, gates: Path) -> None:
    cells = (setup(gates), "import traitlets\nfor _ in range(3): run.step()", "view = run.watch()\nview")
    notebook = jupyter.open(jupyter.write("table.ipynb", *cells))
    notebook.run_all()
    node(notebook, "0.relax0")
    page = notebook.page
    go_to_view(notebook)
    page.click(".lm-TabBar-tabLabel:text-is('Table')")
    page.wait_for_selector(".ms-row")
    assert page.inner_text(".ms-table [role=status]") == "8 of 8"
    inks = "(cells) => [...new Set(cells.map((cell) => getComputedStyle(cell).color))].length"
    assert page.eval_on_selector_all(".ms-row .ms-cell", inks) == 1, "no view lends its colours to another"
    page.fill("input[aria-label='filter by text']", "relax")
    page.wait_for_function("() => document.querySelector('.ms-table [role=status]').textContent === '3 of 8'")
    page.fill("input[aria-label='filter by text']", "")
    page.select_option("select[aria-label='status']", "BLOCKED")
    page.wait_for_function("() => document.querySelector('.ms-table [role=status]').textContent === '3 of 8'")
    page.select_option("select[aria-label='status']", "")
    page.click(".ms-head button:text-is('task')")
    page.wait_for_selector(".ms-row:first-child[data-key='0.ask']")
    page.click(".ms-head button:text-is('task')")
    page.wait_for_selector(".ms-row:first-child[data-key='0.relax2']")
    page.click('.ms-row[data-key="0.ask"]')
    page.wait_for_selector(".ms-table .ms-panel:has-text('Ada')")
    notebook.shot("table")
    page.click(".lm-TabBar-tabLabel:text-is('Graph')")
    page.wait_for_selector('.ms-node.ms-selected[data-key="0.ask"]', state="attached")
    page.wait_for_selector(".ms-panel:has-text('Ada')")
    assert notebook.errors == []
    notebook.close()
    latest_run(jupyter).cancel()


def test_rows_of_the_table_change_while_the_run_goes_on(jupyter: Lab, gates: Path) -> None:
    notebook = jupyter.open(jupyter.write("rows.ipynb", setup(gates), "run.step()", "run.table()"))
    notebook.run_all()
    page = notebook.page
    go_to_view(notebook, ".ms-row")
    run = latest_run(jupyter)

    def shows(name: str, status: str) -> None:
        page.wait_for_selector(f".ms-row[data-key='{name}']:has-text('{status}')")

    until_running(run, "0.relax0")
    shows("0.relax0", "RUNNING")
    shows("0.bands0", "BLOCKED")
    row = page.locator(".ms-row[data-key='0.bands0']").bounding_box()
    page.mouse.move(row["x"] + 20, row["y"] + row["height"] / 2)
    page.mouse.down()
    release(gates, 0)
    while run.tasks.loc["0.bands0", "status"] != "COMPLETED":
        run.step()
    shows("0.relax0", "COMPLETED")
    shows("0.bands0", "COMPLETED")
    page.mouse.up()  # the row was painted anew while it was pressed, and is clicked still
    page.wait_for_selector(".ms-table .ms-panel h4:has-text('0.bands0')")
    page.select_option("select[aria-label='status']", "COMPLETED")  # a choice that was not there at first
    page.wait_for_function("() => document.querySelectorAll('.ms-row').length === 2")
    notebook.close()
    for number in (1, 2):
        release(gates, number)
    run.cancel()


def test_tasks_that_a_campaign_adds_come_into_every_view(jupyter: Lab, gates: Path) -> None:
    cells = (
        f"""
import matterstack as ms
class Streams(ms.Campaign):
    at_once = 1
    def initial_state(self): return 0
    def update(self, state, results, live):
        number = state + len(results)
        more = [ms.Task(f"t{{number}}", f"cat {gates}/gate{{number}}")] if number < 3 else []
        return ms.Update(number, ms.Workflow(more))
run = ms.initialize_run("browser", Streams())
""",
        "run.dag()",
        "run.table()",
        "run.watch()",
    )
    notebook = jupyter.open(jupyter.write("streams.ipynb", *cells))
    notebook.page.set_viewport_size({"width": 1000, "height": 2400})
    notebook.run_all()
    notebook.page.wait_for_selector(".ms-cockpit b:text-is('PENDING')")
    run = latest_run(jupyter)  # another process steps, and the views follow
    for number in range(3):
        while run.attempts["status"].eq("RUNNING").sum() < 1 or run.counts.total <= number:
            run.step()
        node(notebook, f"0.t{number}", "RUNNING")
        notebook.page.wait_for_selector(f".ms-row[data-key='0.t{number}']:has-text('RUNNING')")
        notebook.page.wait_for_selector(f".ms-cockpit:has-text('{number + 1} tasks')")
        release(gates, number)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    for number in range(3):
        node(notebook, f"0.t{number}", "COMPLETED")
    notebook.page.wait_for_selector(".ms-cockpit b:text-is('COMPLETED')")
    notebook.shot("streams")
    notebook.close()


def test_a_form_is_answered_wrongly_then_rightly(jupyter: Lab, gates: Path) -> None:
    notebook = jupyter.open(jupyter.write("form.ipynb", setup(gates), "run.step()", "run.inbox()"))
    notebook.run_all()
    page = notebook.page
    go_to_view(notebook, ".ms-form")
    assert EVIL in page.inner_text(".ms-instructions")

    def field(name: str) -> Any:
        return page.locator(f"[data-path='[{name}]']")

    # Nothing is preselected, and what is missing is said at its field.
    page.click("button:text-is('Submit')")
    page.wait_for_selector(".ms-outcome:has-text('not sent')")
    assert "is missing" in field('"colour"').inner_text()
    field('"count"').locator("input").fill("99")
    page.wait_for_selector("[data-path='[\"count\"]'] .ms-error:has-text('must be at most 9')")
    field('"count"').locator("input").fill("two")
    page.wait_for_selector("[data-path='[\"count\"]'] .ms-error:has-text('must be a whole number')")
    notebook.shot("form-wrong")
    field('"count"').locator("input").fill("2")
    field('"colour"').locator("select").select_option(label="green")
    field('"sure"').locator("select").select_option(label="no")
    field('"inner","depth_A"').locator("input").fill("+1.5e\u22121")  # a word processor's minus
    field('"notes",0').locator("textarea").fill("x")
    page.wait_for_selector("[data-path='[\"notes\",0]'] .ms-error:has-text('at least 2 characters')")
    field('"notes",0').locator("textarea").fill(EVIL)
    page.click("button:text-is('Submit')")
    page.wait_for_selector(".ms-note:has-text('answered')")
    notebook.shot("form-right")
    run = latest_run(jupyter)
    run.step()
    assert run.tasks.loc["0.ask", "status"] == "COMPLETED"
    answer = run.results.loc["0.ask"]
    assert (int(answer["count"]), answer["colour"], bool(answer["sure"])) == (2, "green", False)
    assert answer["inner"] == {"depth_A": 0.15}
    assert answer["notes"] == [EVIL]
    assert notebook.errors == []
    notebook.close()
    run.cancel()


ASKING = f"""
import base64
import matterstack as ms
EVIL = {EVIL!r}
png = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
files = {{"of/t.csv": f"alloy,energy_eV\\n{{EVIL}},1.0281166789931415\\n", "of/p.png": png, "of/v.svg": "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
         "of/c.xyz": "1\\n\\nCu 0 0 0\\n"}}
sample = {{"sample": {{"type": "string", "title": EVIL}}, "gap_eV": {{"type": "number", "minimum": 0, "unit": "eV"}}, "phase": {{"enum": ["cubic", EVIL]}}, "pure": {{"type": "boolean"}}}}
schema = {{"type": "object", "required": ["carry_on", "samples"], "additionalProperties": False, "properties": {{
    "carry_on": {{"type": "array", "items": {{"enum": ["Cu3Au", "CuAu", EVIL]}}, "minItems": 1, "maxItems": 2, "uniqueItems": True}},
    "names": {{"type": "array", "items": {{"type": "string", "maxLength": 20}}, "uniqueItems": True}},
    "samples": {{"type": "array", "minItems": 1, "items": {{"type": "object", "required": ["sample", "gap_eV"], "properties": sample, "additionalProperties": False}}}},
}}}}
show = [ms.FromTask("relax", name) for name in ("t.csv", "p.png", "v.svg", "c.xyz", "none.csv")]
text = f"# Which {{EVIL}}?\\n\\n- **one** or two, [bad](javascript:alert(1)), ![far](http://192.0.2.1/x.png)"
flow = ms.Workflow([
    ms.Task("relax", "cp of/* .", files=files),
    ms.Task("ask", operator="human", instructions=text, schema=schema, show=show),
    ms.Task("gate", operator="human", instructions="Go on?", schema=ms.Approve(), dependencies=["relax"]),
])
run = ms.initialize_run("browser", flow, operators={{"local": ms.LocalOperator(), "human": ms.HumanOperator()}})
run.wait()
"""


def test_a_form_shows_what_it_is_about_and_takes_choices_and_a_table(jupyter: Lab) -> None:
    notebook = jupyter.open(jupyter.write("choices.ipynb", ASKING, "run.inbox()"))
    notebook.run_all()
    page = notebook.page
    go_to_view(notebook, "[data-task='0.ask']")
    form, gate = page.locator("[data-task='0.ask']"), page.locator("[data-task='0.gate']")
    # Its text does nothing, and what it shows is there.
    assert form.locator(".ms-instructions :is(h1, li strong)").count() == 2
    assert form.locator(".ms-instructions :is(img, a)").count() == 0
    pictures = form.locator(".ms-context img")
    page.wait_for_function("() => document.querySelector('.ms-context img').naturalWidth === 1")
    assert pictures.count() == 3
    assert form.locator(f".ms-context td:text-is('{EVIL}')").count() == 1
    assert form.locator(".ms-context td[title='1.0281166789931415']").inner_text() == "1.02812"
    assert "relax did not leave it" in form.locator(".ms-context").inner_text()
    # Choices are ticked, and what is wrong is said in words, at its place.
    for number in range(3):
        form.locator(".ms-choices input").nth(number).check()
    form.locator(".ms-error:has-text('at most 2 entries')").wait_for()
    form.locator(".ms-choices input").nth(2).uncheck()
    names = form.locator("fieldset:has(> legend:text-is('names'))")
    names.locator("button:text-is('add')").click()
    for number in range(2):
        names.locator("input").nth(number).fill("CuAu")
    names.locator(".ms-error:has-text('CuAu is there twice')").wait_for()
    names.locator("button[title='remove this entry']").first.click()
    # Rows of a table.
    rows = form.locator(".ms-grid tbody tr")
    form.locator("button:text-is('add a row')").click()
    form.locator("button:text-is('add a row')").click()
    rows.nth(1).locator("input").nth(0).fill(EVIL)
    rows.nth(2).locator("input").nth(1).fill("-1")
    # The first row is empty and does not count; the errors stand in the second and third.
    rows.nth(2).locator(".ms-error:has-text('must be at least 0')").wait_for()
    rows.nth(1).locator("td").nth(1).locator(".ms-error:has-text('is missing')").wait_for()
    assert rows.nth(0).locator(".ms-error").all_inner_texts() == [""] * 5
    notebook.shot("form-choices")
    rows.nth(2).locator("button").click()
    rows.nth(1).locator("input").nth(1).fill("1.5")
    rows.nth(1).locator("select").nth(0).select_option(label=EVIL)
    rows.nth(1).locator("select").nth(1).select_option(label="no")
    page.wait_for_function("() => ![...document.querySelectorAll('.ms-error')].some((line) => line.textContent)")
    # The other request is answered elsewhere.
    run = latest_run(jupyter)
    run.respond("gate", {"decision": "approve"})
    gate.locator(".ms-note:has-text('answered by')").wait_for()
    assert gate.locator("button").first.is_hidden()
    # Submit says what it does, and a second press of it is none.
    button = form.locator(".ms-submit")
    button.evaluate(
        "(button) => { window.said = []; new MutationObserver(() => window.said.push(button.textContent)).observe(button, {childList: true}); }"
    )
    button.evaluate("(button) => { button.focus(); button.click(); button.click(); }")
    form.locator(".ms-note:has-text('answered; the next step')").wait_for()
    assert page.evaluate("() => window.said[0]") == "checking …"
    assert page.evaluate("() => document.activeElement.dataset.task") == "0.ask", "and keys do not go to the notebook"
    assert len(run.inbox()) == 0
    run.wait(timeout_s=180)
    row = {"sample": EVIL, "gap_eV": 1.5, "phase": EVIL, "pure": False}
    answer = run.results.loc["0.ask"]
    assert (answer["carry_on"], answer["names"], answer["samples"]) == (["Cu3Au", "CuAu"], ["CuAu"], [row])
    notebook.close()


def test_every_button_of_the_cockpit(jupyter: Lab, gates: Path) -> None:
    patient = "from matterstack.notebook import cockpit\ncockpit._SURE_S = 600.0  # however busy this machine is"
    notebook = jupyter.open(jupyter.write("cockpit.ipynb", patient, setup(gates), "run.watch()"))
    notebook.run_all()
    page = notebook.page
    node(notebook, "0.relax0", "READY")
    go_to_view(notebook)
    run = latest_run(jupyter)

    def press(name: str) -> None:
        page.click(f"[data-name='{name}']")

    def told(text: str) -> None:
        page.wait_for_selector(f".ms-message:has-text('{text}')")

    def is_on(name: str) -> bool:
        return bool(page.locator(f"[data-name='{name}']").is_enabled())

    press("Step")
    told("submitted")
    node(notebook, "0.ask", "WAITING")
    page.wait_for_selector(".lm-TabBar-tabLabel:text-is('Inbox (1)')")
    assert not is_on("Retry"), "nothing has failed"
    press("Pause")
    told("The run is PAUSED")
    page.wait_for_selector("[data-name='Pause']:disabled")
    press("Resume")
    told("The run is RUNNING")
    # A tick in another process shows as such, with who.
    program = "import sys, matterstack.storage.run_lock as lock, pathlib\nwith lock.RunLock(pathlib.Path(sys.argv[1])):\n print('held', flush=True)\n sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(run.path / "run.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        press("Step")
        told("Another process is running")
        told(f"pid {holder.pid}")
        notebook.shot("cockpit-locked")
        holder.communicate()
    press("Run")
    node(notebook, "0.relax0", "RUNNING")
    node(notebook, "0.bad", "FAILED")
    for number in range(3):
        release(gates, number)
    node(notebook, "0.bands2", "COMPLETED")
    told("needs a person")
    page.locator('.ms-node[data-key="0.bad"]').click()
    page.wait_for_selector(".ms-panel:has-text('0.bad')")
    press("Run")  # off again: it would take up at once what is retried
    told("then press Run")
    press("Retry")
    told("The run is RUNNING")
    node(notebook, "0.bad", "READY")
    page.click(".lm-TabBar-tabLabel:text-is('Journal')")
    page.wait_for_selector("td:text-is('0.bad')")
    notebook.shot("cockpit-journal")
    press("Cancel")
    told("Press Cancel again")
    press("Cancel")
    told("The run is CANCELLED")
    page.wait_for_function("() => [...document.querySelectorAll('[data-name]')].every((b) => b.disabled)")
    assert notebook.errors == []
    notebook.close()


MANY_ROWS = """
import matterstack as ms
flow = ms.Workflow()
for i in range(5000):
    flow.add_task(ms.Task(f"t{i}", "true" if i else "echo because >&2; exit 3", group=f"g{i % 7}", allow_failure=True))
run = ms.initialize_run("browser", flow, operators={"local": ms.LocalOperator(max_active=1)})
for _ in range(2): run.step()
while not (run.tasks["status"] == "FAILED").any(): run.step()
table = run.table()
table
"""


def test_of_a_large_table_the_rows_in_sight_are_sent_and_its_columns_are_dragged_and_chosen(jupyter: Lab) -> None:
    notebook = jupyter.open(jupyter.write("many.ipynb", MANY_ROWS))
    page = notebook.page
    page.set_viewport_size({"width": 1000, "height": 1000})
    notebook.run_all()
    go_to_view(notebook, ".ms-row")
    page.wait_for_selector(".ms-row[data-key='0.t0']:has-text('exit code 3')")
    # Nothing that matters is cut, or beyond the edge.
    inside = page.evaluate("""() => {
      const edge = document.querySelector('.ms-rows').getBoundingClientRect().right;
      const cells = [...document.querySelector('.ms-row[data-key="0.t0"]').children].slice(0, 2);
      const reason = document.querySelector('[data-column="reason"]').getBoundingClientRect().left;
      return [cells.every((cell) => cell.scrollWidth <= cell.clientWidth), edge - reason];
    }""")
    assert inside[0]
    assert inside[1] > 150, "the reason is on screen"
    zone = page.evaluate("Intl.DateTimeFormat().resolvedOptions().timeZone")
    assert zone in page.get_attribute(".ms-row[data-key='0.t0'] .ms-is-time", "title")
    assert page.locator(".ms-row").count() < 60
    # Far below, rows are sent when they come into sight.
    page.evaluate("() => { document.querySelector('.ms-rows').scrollTop = 3000 * 22; }")
    page.wait_for_selector(".ms-row[data-key='0.t3000']")
    page.evaluate("() => { document.querySelector('.ms-rows').scrollTop = 0; }")
    page.wait_for_selector(".ms-row[data-key='0.t0']")
    page.click(".ms-head button:text-is('task')")
    page.click(".ms-head button:text-is('task')")
    page.wait_for_selector(".ms-row:first-child[data-key='0.t4999']")
    page.fill("input[aria-label='filter by text']", "because")
    page.wait_for_function("() => document.querySelector('.ms-table [role=status]').textContent === '1 of 5000'")
    page.click(".ms-row")
    page.wait_for_selector(".ms-table .ms-panel:has-text('stderr.txt')")
    page.click("button[title='close the details']")
    page.wait_for_selector(".ms-table .ms-panel", state="hidden")

    def heads() -> list[str]:
        return list(page.locator(".ms-head button").all_inner_texts())

    def drag(selector: str, to: str | None = None, by: int = 0) -> None:
        box = page.locator(selector).bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        goal = page.locator(to).bounding_box()["x"] + 2 if to else x + by
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(goal, y, steps=4)
        page.mouse.up()

    before = page.locator("[data-column='task']").bounding_box()["width"]
    drag("[data-column='task'] .ms-edge", by=60)
    page.wait_for_function(f"() => document.querySelector('[data-column=task]').offsetWidth > {before} + 50")
    drag("[data-column='reason'] button", to="[data-column='status']")
    page.wait_for_function("() => document.querySelectorAll('.ms-head button')[1].textContent === 'reason'")
    page.click(".ms-chooser summary")
    page.click("input[aria-label='show iteration']")
    page.wait_for_function("() => !document.querySelector('[data-column=iteration]')")
    notebook.shot("table-columns")
    # The page is loaded again: the kernel knows all of that.
    notebook.save()
    page.reload()
    page.wait_for_selector(".ms-row")
    assert heads()[:3] == ["task", "reason", "status"]
    assert "iteration" not in heads()
    assert page.input_value("input[aria-label='filter by text']") == "because"
    assert page.locator(".ms-still").is_hidden()
    page.click("text=Kernel >> nth=0")
    page.click(".lm-Menu-itemLabel:text-is('Restart Kernel…')")
    page.click(".jp-Dialog button:has-text('Restart')")
    page.wait_for_selector(".ms-still:has-text('Run this cell again')")
    page.wait_for_selector(".jp-StatusBar-TextItem:has-text('| Idle')")
    notebook.close()
    latest_run(jupyter).cancel()


USED = """
import asyncio, pathlib
import matterstack as ms
schema = {{"type": "object", "required": ["x"], "properties": {{"x": {{"type": "integer"}}}}}}
tasks = [ms.Task("gate", "cat {gate}"), *(ms.Task(f"t{{i}}", "true", dependencies=["gate"]) for i in range(900))]
tasks += [ms.Task("ask", operator="human", instructions="?", schema=schema)]
run = ms.initialize_run("browser", ms.Workflow(tasks), operators={{"local": ms.LocalOperator(), "human": ms.HumanOperator()}})
run.step()
"""


@pytest.mark.parametrize("waits", ["run.wait()", "await run.wait_async()"])
def test_the_table_and_a_form_are_used_while_a_cell_runs(jupyter: Lab, gates: Path, waits: str) -> None:
    cells = (USED.format(gate=gates / "gate0"), "run.table()", "run.inbox()", waits)
    notebook = jupyter.open(jupyter.write("used.ipynb", *cells))
    page = notebook.page
    notebook.run_all()
    page.wait_for_selector(".jp-OutputArea [aria-label='progress']")
    go_to_view(notebook, ".ms-row")
    is_free = waits.startswith("await")  # of a kernel that is not, some take up clicks when the cell has ended

    def end() -> None:
        """Let the cell end."""
        release(gates, 0)
        page.wait_for_function(
            "() => ![...document.querySelectorAll('.jp-InputPrompt')].some((p) => p.textContent.includes('*'))"
        )

    # Each twice: the second choice is the one that may be lost.
    page.click(".ms-head button:text-is('task')")
    page.click(".ms-head button:text-is('task')")
    page.click(".ms-chooser summary")
    page.click("input[aria-label='show iteration']")
    page.click("input[aria-label='show group']")
    page.click(".ms-chooser summary")
    page.locator("[data-task='0.ask'] input").fill("x")
    page.click("button:text-is('Submit')")
    if is_free:
        page.wait_for_selector(".ms-error:has-text('must be a whole number')")
    page.locator("[data-task='0.ask'] input").fill("3")
    if is_free:
        page.click("button:text-is('Submit')")
        page.wait_for_selector(".ms-note:has-text('answered')")
        assert page.locator(".jp-InputPrompt:text-is('[*]:')").count() == 1, "the cell goes on"
    if not is_free:
        end()
    page.wait_for_selector(".ms-row:first-child[data-key='0.t899']")
    page.click(".ms-row:first-child")
    page.wait_for_selector(".ms-table .ms-panel h4:has-text('0.t899')")
    page.click(".ms-panel [data-task='0.gate']")  # what it comes after leads there
    page.wait_for_selector(".ms-table .ms-panel h4:has-text('0.gate')")
    page.evaluate("() => { document.querySelector('.ms-rows').scrollTop = 450 * 22; }")
    page.wait_for_selector(".ms-row[data-key='0.t449']")
    assert page.locator(".ms-head [data-column]").count() == 8
    if is_free:
        notebook.shot("used-while-a-cell-awaits")
        end()
    else:
        page.click("button:text-is('Submit')")
        page.wait_for_selector(".ms-note:has-text('answered')")
    run = latest_run(jupyter)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert run.results.loc["0.ask", "x"] == 3
    notebook.close()


def test_run_is_turned_on_and_off_while_a_cell_awaits(jupyter: Lab, gates: Path) -> None:
    ends = "await asyncio.to_thread(pathlib.Path('end').read_text)\ncockpit._worker.join(90)"  # its last tick, too
    cells = (USED.format(gate=gates / "gate0"), "cockpit = run.watch()\ncockpit", ends)
    os.mkfifo(jupyter.directory / "end")
    notebook = jupyter.open(jupyter.write("toggled.ipynb", *cells))
    page = notebook.page
    notebook.run_all()
    go_to_view(notebook, ".ms-cockpit")
    page.wait_for_selector(".jp-InputPrompt:text-is('[*]:')")
    for _ in range(2):  # Step is off while Run is on: so says the kernel
        page.click("[data-name='Run']")
        page.wait_for_selector("[data-name='Step']:disabled")
        page.click("[data-name='Run']")
        page.wait_for_selector("[data-name='Step']:enabled")
    (jupyter.directory / "end").write_text("on")
    page.wait_for_selector(".jp-InputPrompt:text-is('[*]:')", state="detached")
    notebook.close()
    run = latest_run(jupyter)
    release(gates, 0)
    run.cancel()


def test_a_form_whose_kernel_is_gone_says_so_and_takes_nothing(jupyter: Lab, gates: Path) -> None:
    notebook = jupyter.open(jupyter.write("gone.ipynb", setup(gates), "run.step()", "run.inbox()"))
    page = notebook.page
    notebook.run_all()
    go_to_view(notebook, ".ms-form")
    page.locator(".ms-form input").first.fill("2")
    assert page.locator(".ms-still").is_hidden()
    page.click("text=Kernel >> nth=0")
    page.click(".lm-Menu-itemLabel:text-is('Restart Kernel…')")
    page.click(".jp-Dialog button:has-text('Restart')")
    page.wait_for_selector(".ms-form .ms-still:has-text('Run this cell again')")
    page.wait_for_selector(".jp-StatusBar-TextItem:has-text('| Idle')")
    broken = page.evaluate(BROKEN, ".jp-OutputArea")
    assert broken == 0, "no icon of something broken beside what the form says"
    page.locator(".ms-submit").evaluate("(button) => button.click()")
    assert page.get_attribute(".ms-submit", "aria-disabled") == "true"
    assert page.inner_text(".ms-submit") == "Submit", "nothing is being checked"
    notebook.shot("form-after-a-restart")
    notebook.close()
    latest_run(jupyter).cancel()


def test_no_view_is_larger_than_what_is_in_it(jupyter: Lab) -> None:
    cells = (
        "import matterstack as ms\nflow = ms.Workflow([ms.Task('a', 'true'), ms.Task('b', 'true', dependencies=['a'])])\n"
        "run = ms.initialize_run('browser', flow)",
        "run.dag()",
        "run.table()",
        "run.watch()",
    )
    notebook = jupyter.open(jupyter.write("small.ipynb", *cells))
    page = notebook.page
    page.set_viewport_size({"width": 900, "height": 2200})
    notebook.run_all()
    page.wait_for_selector(".ms-cockpit .ms-node")

    def height(selector: str) -> float:
        return float(page.locator(selector).first.bounding_box()["height"])

    assert height(".ms-rows") <= 110, "two rows, and their head"
    page.locator(".ms-node").first.click()
    page.wait_for_selector(".ms-panel h4:has-text('0.a')")
    assert height(".ms-stage") < 300
    latest_run(jupyter).wait(timeout_s=180)
    page.click(".lm-TabBar-tabLabel:text-is('Journal')")
    page.wait_for_selector(".ms-journal td:has-text('COMPLETED')")
    rows = page.locator(".ms-journal tr").evaluate_all("(rows) => rows.map((row) => row.offsetHeight)")
    assert max(rows) < 40, "no moment is broken into lines"
    notebook.shot("small-views")
    notebook.close()


def test_the_cockpit_goes_on_when_somebody_answered_and_says_what_is_true(jupyter: Lab) -> None:
    cells = (
        """
import matterstack as ms
class Rounds(ms.Campaign):
    def initial_state(self): return 0
    def plan(self, state):
        ask = ms.Task("ask", operator="human", instructions="?", schema={"type": "object", "properties": {"x": {"type": "integer"}}})
        return ms.Workflow([ms.Task("a", "true"), *([ask] if state else [])]) if state < 2 else None
    def analyze(self, state, results): return state + 1
run = ms.initialize_run("browser", Rounds(), operators={"local": ms.LocalOperator(), "human": ms.HumanOperator()})
""",
        "run.watch()",
    )
    notebook = jupyter.open(jupyter.write("answer.ipynb", *cells))
    page = notebook.page
    page.set_viewport_size({"width": 900, "height": 1000})
    notebook.run_all()
    go_to_view(notebook, ".ms-cockpit")
    page.wait_for_selector(".ms-cockpit b:text-is('PENDING')")
    cut = page.evaluate(
        "() => [...document.querySelectorAll('[data-name]')].filter((b) => b.scrollWidth > b.clientWidth).length"
    )
    assert cut == 0
    page.click("[data-name='Run']")
    page.wait_for_selector(".ms-message:has-text('the run then goes on by itself')")
    page.click(".ms-head-before summary")
    page.wait_for_selector("th:text-is('all iterations')")
    page.click(".lm-TabBar-tabLabel:has-text('Inbox')")
    page.locator(".ms-form input").first.fill("3")
    page.click("button:text-is('Submit')")
    page.wait_for_selector(".ms-cockpit b:text-is('COMPLETED')")
    page.wait_for_function("() => [...document.querySelectorAll('[data-name]')].every((b) => b.disabled)")
    page.wait_for_function("() => !document.querySelector('.ms-cockpit').innerText.includes('needs a person')")
    assert "3 tasks" in page.inner_text(".ms-head-times"), "of all iterations"
    # What is left when the kernel is gone says so, without an icon of something broken.
    page.click("text=Kernel >> nth=0")
    page.click(".lm-Menu-itemLabel:text-is('Restart Kernel…')")
    page.click(".jp-Dialog button:has-text('Restart')")
    page.wait_for_selector(".ms-cockpit.jupyter-widgets-disconnected")
    page.wait_for_selector(".jp-StatusBar-TextItem:has-text('| Idle')")
    said = page.evaluate("() => getComputedStyle(document.querySelector('.ms-cockpit'), '::after').content")
    assert "Run this cell again" in said
    assert page.evaluate(BROKEN, ".ms-cockpit") == 0
    notebook.shot("cockpit-after-a-restart")
    notebook.close()


def test_a_restarted_kernel_takes_the_run_up_again_in_the_dark(jupyter: Lab, gates: Path) -> None:
    jupyter.dark(True)
    try:
        run = ms.initialize_run(
            "browser",
            ms.Workflow([ms.Task("a", "true"), ms.Task("b", "true", dependencies=["a"])]),
            base_path=jupyter.directory,
        )
        run.step()
        cells = (f"import matterstack as ms\nrun = ms.open_run({str(run.path)!r})", "run.dag()", "run.wait()")
        notebook = jupyter.open(jupyter.write("restart.ipynb", *cells))
        page = notebook.page
        notebook.run_all()
        node(notebook, "0.b", "COMPLETED")
        page.click("text=Kernel >> nth=0")
        page.click(".lm-Menu-itemLabel:text-is('Restart Kernel…')")
        page.click(".jp-Dialog button:has-text('Restart')")
        page.wait_for_selector(".ms-still:has-text('Run this cell again')")
        page.wait_for_selector(".jp-StatusBar-TextItem:has-text('| Idle')")  # not while it restarts
        page.click("text=Kernel >> nth=0")
        page.click(".lm-Menu-itemLabel:text-is('Restart Kernel and Run All Cells…')")
        page.click(".jp-Dialog button:has-text('Restart')")
        page.wait_for_function(
            "() => [...document.querySelectorAll('.jp-InputPrompt')].every((p) => /\\[[1-3]\\]/.test(p.textContent) || !p.textContent.trim())"
        )
        node(notebook, "0.b", "COMPLETED")
        go_to_view(notebook)
        colours = page.evaluate(
            "() => [getComputedStyle(document.querySelector('.ms-canvas')).backgroundColor,"
            " getComputedStyle(document.querySelector('.ms-node text')).fill]"
        )
        background, text = (
            sum(int(part) for part in colour[colour.index("(") + 1 :].rstrip(")").split(",")[:3]) for colour in colours
        )
        assert background < 200 < 500 < text, f"dark text on a dark page: {colours}"
        notebook.shot("dark")
        assert notebook.errors == []
        notebook.close()
    finally:
        jupyter.dark(False)


REVIEWING = """
import matterstack as ms
from matterstack.optimizers import Choice, Integer, Real, Space, review
space = Space({"T_K": Real(300, 900), "k": Integer(0, 9), "gas": Choice(["air", "N2"])})
points = [{"T_K": 400.0 + i / 3, "k": i, "gas": "N2"} for i in range(3)]
flow = ms.Workflow([review("approve", points, space)])
run = ms.initialize_run("browser", flow, operators={"human": ms.HumanOperator()})
run.step()
"""


def test_suggestions_stand_in_a_table_and_a_person_removes_changes_and_adds_some(jupyter: Lab) -> None:
    notebook = jupyter.open(jupyter.write("review.ipynb", REVIEWING, "run.inbox()"))
    notebook.run_all()
    go_to_view(notebook, "[data-task='0.approve']")
    form = notebook.page.locator("[data-task='0.approve']")
    rows = form.locator(".ms-grid tbody tr")
    assert rows.count() == 3
    assert rows.nth(1).locator("input").nth(0).input_value() == "400.3333333333333"
    assert rows.nth(0).locator("input").nth(1).input_value() == "0"
    assert rows.nth(0).locator("select").evaluate("(select) => select.selectedOptions[0].text") == "N2"
    rows.nth(2).locator("button").click()
    rows.nth(0).locator("input").nth(0).fill("1400")
    rows.nth(0).locator(".ms-error:has-text('must be at most 900')").wait_for()
    notebook.shot("form-review")
    rows.nth(0).locator("input").nth(0).fill("500")
    form.locator("button:text-is('add a row')").click()
    for number, text in enumerate(["333.5", "7"]):
        rows.nth(2).locator("input").nth(number).fill(text)
    rows.nth(2).locator("select").select_option(label="air")
    form.locator(".ms-submit").click()
    form.locator(".ms-note:has-text('answered; the next step')").wait_for()
    run = latest_run(jupyter)
    run.wait(timeout_s=180)
    assert run.results.loc["0.approve", "data"] == [
        {"T_K": 500, "k": 0, "gas": "N2"},
        {"T_K": 400.0 + 1 / 3, "k": 1, "gas": "N2"},
        {"T_K": 333.5, "k": 7, "gas": "air"},
    ]
    notebook.close()
