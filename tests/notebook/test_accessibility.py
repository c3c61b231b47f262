"""The views for everybody: axe finds nothing serious, and all is done by keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Lab, Notebook, lab

import matterstack as ms

#: A run in which something is done, failed, skipped, and waits for a person, and a form with a field of each kind.
SETUP = """
import matterstack as ms
schema = {
    "type": "object",
    "properties": {
        "count": {"type": "integer", "minimum": 1, "maximum": 9, "description": "how many", "unit": "eV"},
        "colour": {"enum": ["red", "green"]},
        "sure": {"type": "boolean"},
        "picks": {"type": "array", "items": {"enum": ["a", "b", "c"]}},
        "notes": {"type": "array", "items": {"type": "string", "minLength": 2}},
        "inner": {"type": "object", "properties": {"depth_A": {"type": "number"}}},
        "points": {"type": "array", "items": {"type": "object", "properties": {"T_K": {"type": "number"}, "gas": {"enum": ["air", "N2"]}}}},
        "any": {},
    },
    "required": ["count", "colour", "sure"],
}
flow = ms.Workflow()
for i in range(5):
    flow.add_task(ms.Task(f"relax{i}", "echo hello; echo '{\\"energy_eV\\": -1.5}' > result.json"))
    flow.add_task(ms.Task(f"bands{i}", "true", dependencies=[f"relax{i}"]))
flow.add_task(ms.Task("bad", "echo no >&2; exit 3", allow_failure=True))
flow.add_task(ms.Task("after-bad", "true", dependencies=["bad"]))
text = "# Which?\\n\\n**one** of `them`, see [this](https://example.org)\\n\\n| a | b |\\n|--|--|\\n| 1 | 2 |\\n\\n" + "and more\\n\\n" * 9
flow.add_task(ms.Task("ask", operator="human", instructions=text, schema=schema, assignee="Ada"))
flow.add_task(ms.Task("after-ask", "true", dependencies=["ask"]))
plan = ms.preview(flow)
run = ms.initialize_run("everybody", flow, operators={"local": ms.LocalOperator(), "human": ms.HumanOperator()})
run.wait()
"""
#: What is serious or critical in the outputs, with the elements that it is about.
SERIOUS = """async () => {
  const found = await axe.run({ include: [[".jp-OutputArea-output"]] }, { resultTypes: ["violations"] });
  return found.violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, nodes }) => [id, nodes.map(({ html }) => html.slice(0, 200))]);
}"""


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("everybody")) as running:
        yield running


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(jupyter: Lab, theme: str) -> None:
    package = pytest.importorskip("axe_playwright_python", reason="not required: axe-playwright-python")
    axe = Path(package.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    jupyter.dark(theme == "dark")
    cells = (SETUP, "plan", "run", "run.dag()", "run.table()", "run.inbox()", "run.watch()", "run.explain()",
             "ms.runs('everybody')", "run.browse('bad')", "run.timeline()", "run.scatter('time', 'energy_eV')", "ms.watch('everybody')",
             "from ase.build import bulk\nms.show_structure(bulk('Cu', cubic=True))")  # fmt: skip
    notebook = jupyter.open(jupyter.write(f"{theme}.ipynb", *cells))
    page = notebook.page
    page.set_viewport_size({"width": 1400, "height": 9000})  # JupyterLab draws what is in sight
    notebook.run_all()
    page.wait_for_selector("th:text-is('what to do')")
    page.wait_for_selector(".ms-cockpit .ms-node")
    for view in (".ms-browse-status", ".ms-time-stage", ".ms-scatter", ".ms-runs [role=row]", ".ms-structure canvas"):
        page.wait_for_selector(f"{view} >> visible=true")
    page.locator('.ms-node[data-key="0.bad"]').first.click()
    page.wait_for_selector(".ms-dag .ms-panel h4")
    page.locator('.ms-row[data-key="0.ask"]').first.click()
    page.wait_for_selector(".ms-table .ms-panel h4")
    page.locator(".ms-chooser summary").first.click()
    page.locator(".ms-submit:visible").click()
    page.wait_for_selector(".ms-error:has-text('is missing') >> visible=true")
    page.evaluate(axe)
    assert page.evaluate(SERIOUS) == []
    for tab in ("Table", "Journal", "Inbox", "Time", "Results"):
        page.click(f".ms-cockpit .lm-TabBar-tabLabel:has-text('{tab}')")
        assert page.evaluate(SERIOUS) == [], tab
    notebook.shot(f"axe-{theme}")
    notebook.close()
    jupyter.dark(False)
    ms.open_run(next((jupyter.directory / "workspaces/everybody/runs").iterdir())).cancel()


#: What has the focus: its name, whether it is in the cockpit, and whether that can be seen.
FOCUS = """() => {
  const part = document.activeElement, style = getComputedStyle(part);
  return { name: part.getAttribute("aria-label") || part.textContent || part.labels?.[0]?.textContent || "",
    inside: Boolean(part.closest(".ms-cockpit")), seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1,
    tag: part.tagName.toLowerCase(), keep: part.dataset.keep || "" };
}"""


class Keys:
    """A keyboard, and nothing else."""

    def __init__(self, notebook: Notebook) -> None:
        self.page = notebook.page

    def at(self) -> Any:
        return self.page.evaluate(FOCUS)

    def press(self, *keys: str) -> Any:
        for key in keys:
            self.page.keyboard.press(key)
        return self.at()

    def walk(self) -> list[Any]:
        """Press Tab until the cockpit is left; return where one came by."""
        stops = []
        while (stop := self.press("Tab"))["inside"]:
            stops.append(stop)
            assert len(stops) < 200, "it is never left"
        return stops

    def go(self, name: str, key: str = "Tab") -> Any:
        """Press a key until what has the focus begins with a name."""
        for _ in range(80):
            if (stop := self.press(key))["name"].strip().startswith(name):
                return stop
        raise AssertionError(f"{key} never led to {name}; the last was {stop}")

    def cells(self) -> int:
        return int(self.page.locator(".jp-Notebook .jp-Cell").count())


def test_the_cockpit_is_used_by_keyboard_alone(jupyter: Lab) -> None:
    notebook = jupyter.open(jupyter.write("keys.ipynb", SETUP, "run.watch()"))
    notebook.run_all()
    page, keys = notebook.page, Keys(notebook)
    page.wait_for_selector(".ms-cockpit .ms-node")
    commands = ("a", "b", "d", "d", "z", "x", "m")  # of JupyterLab, in a cell that is not typed into
    page.locator("button[data-name='Step']").focus()
    keys.press(*commands)
    stops = keys.walk()
    assert [stop for stop in stops if not stop["seen"]] == [], "one sees where one is"
    assert [stop for stop in stops if not stop["name"].strip()] == []
    assert keys.press("Shift+Tab")["inside"], "and comes back"
    # The graph.
    keys.go("graph of tasks", "Shift+Tab")
    keys.press(*commands, "ArrowRight")
    page.wait_for_selector(".ms-panel h4:has-text('0.relax0')")
    page.wait_for_function(
        "() => document.querySelector('.ms-dag [role=status].ms-unseen').textContent === 'relax0: completed'"
    )
    assert keys.press("Tab")["name"] == "close the panel"
    assert keys.press(*commands, "Escape")["name"].startswith("graph of tasks")
    page.wait_for_selector(".ms-dag .ms-panel", state="hidden")
    keys.go("10 completed", "Shift+Tab")
    assert keys.press("Enter")["keep"] == "C", "what is made anew when it is pressed keeps the focus"
    # The table.
    keys.go("Graph", "Shift+Tab")
    keys.press("ArrowRight", "Enter")
    page.wait_for_selector(".ms-row")
    keys.go("tasks:")
    keys.press(*commands, "ArrowDown")
    page.wait_for_selector(".ms-table .ms-panel h4:has-text('0.relax0')")
    named = page.get_attribute(".ms-rows", "aria-activedescendant")
    assert page.get_attribute(f"#{named}", "data-key") == "0.relax0"
    keys.go("close the details")
    assert keys.press("Escape")["name"].startswith("tasks:")
    page.wait_for_selector(".ms-table .ms-panel", state="hidden")
    keys.go("task")
    keys.press("Enter")
    page.wait_for_selector(".ms-row:first-child[data-key='0.after-ask']")
    assert keys.press("Enter")["keep"] == "task", "the head is made anew, and has the focus still"
    page.wait_for_selector(".ms-row:first-child[data-key='0.relax4']")
    before = page.locator(".ms-head [data-column='task']").bounding_box()["width"]
    keys.press("Shift+ArrowRight")
    page.wait_for_function(f"() => document.querySelector('.ms-head [data-column=task]').offsetWidth === {before + 16}")
    assert keys.press("Alt+Shift+ArrowRight")["keep"] == "task"
    page.wait_for_function(
        "() => [...document.querySelectorAll('.ms-head [data-column]')].slice(0, 2).map((c) => c.dataset.column).join() === 'status,task'"
    )
    keys.go("columns", "Shift+Tab")
    assert keys.press("Enter", "Tab")["keep"] == "status"
    assert keys.press("Escape")["tag"] == "summary"
    # The form.
    keys.go("Table", "Shift+Tab")
    keys.press("ArrowRight", "ArrowRight", "Enter")
    page.wait_for_selector(".ms-form:visible")
    while (stop := keys.press("Tab"))["tag"] != "input":
        assert stop["inside"]
    keys.press("x")
    page.wait_for_selector(".ms-number[aria-invalid='true']")
    keys.press("Backspace", "7", "Tab", "g", "Tab", "y")
    keys.go("Submit")
    after = keys.press("Enter")
    page.wait_for_selector(".ms-note:has-text('answered; the next step')")
    assert keys.at()["inside"], f"keys that are typed on are no commands: {after}"
    keys.press(*commands)
    assert keys.cells() == 2
    assert page.locator(".jp-Notebook .jp-CodeCell").count() == 2
    notebook.shot("keyboard")
    notebook.close()
    run = ms.open_run(
        max((jupyter.directory / "workspaces/everybody/runs").iterdir(), key=lambda path: path.stat().st_mtime)
    )
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert run.results.loc["0.ask", ["count", "colour", "sure"]].tolist() == [7, "green", True]
