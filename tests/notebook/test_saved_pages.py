"""What is left of the views without a kernel: in a page that nbconvert made, and in a notebook that nobody trusts."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser import SECOND, SHOTS, Lab, lab
from nbclient import NotebookClient
from nbconvert import HTMLExporter

import matterstack as ms

EVIL = "</script><img src=x onerror=alert(1)>"
SETUP = f"""
import matterstack as ms
flow = ms.Workflow()
for i in range(3):
    flow.add_task(ms.Task(f"relax{{i}}", "true"))
    flow.add_task(ms.Task(f"bands{{i}}", "true", dependencies=[f"relax{{i}}"]))
flow.add_task(ms.Task("bad", "exit 3", allow_failure=True))
flow.add_task(ms.Task("evil", "echo '{EVIL}' >&2; exit 3", allow_failure=True))
flow.add_task(ms.Task("ask", operator="human", instructions="Which? {EVIL}"))
plan = ms.preview(flow)
run = ms.initialize_run("saved", flow, operators={{"local": ms.LocalOperator(), "human": ms.HumanOperator()}})
run.wait()
"""
VIEWS = ("plan", "run", "run.dag()", "run.dag(collapse='group')", "run.table()", "run.watch()", "run.inbox()",
         "ms.runs('saved')")  # fmt: skip
LIVE = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook as nbconvert, papermill and nbclient execute it, with none of their settings changed."""
    directory = tmp_path_factory.mktemp("saved")
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in (SETUP, *VIEWS)]
    NotebookClient(notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": directory}}).execute()
    nbformat.write(notebook, directory / "saved.ipynb")
    return directory / "saved.ipynb"


@pytest.fixture(scope="module")
def jupyter(executed: Path) -> Iterator[Lab]:
    with lab(executed.parent) as running:
        yield running


def test_where_nobody_is_there_a_view_leaves_a_still_and_no_widget(executed: Path) -> None:
    notebook = nbformat.read(executed, as_version=4)
    for cell, view in zip(notebook.cells[1:], VIEWS, strict=True):
        data = cell.outputs[-1].data
        assert LIVE not in data, view
        assert "<svg" not in data["text/html"], "which JupyterLab takes out of a notebook that one does not trust"
        assert "<script" not in data["text/html"]


@pytest.mark.parametrize("variables", [{}, {"VOILA_PREHEAT": "False"}])
def test_voila_executes_like_such_a_program_and_has_a_page(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.v4.new_notebook()
    cell = "import matterstack as ms\nms.initialize_run('w', ms.Workflow([ms.Task('a', 'true')])).dag()"
    notebook.cells = [nbformat.v4.new_code_cell(cell)]
    NotebookClient(notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    assert (LIVE in notebook.cells[0].outputs[-1].data) is bool(variables)


def test_a_still_of_the_graph_has_shapes_as_a_picture_and_words_as_text(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("a", "true", group="<i>"), ms.Task("b", "true", group="<i>"), ms.Task("c", "true")])
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    html = run.dag(collapse="group").twin_html()
    words = re.sub(r"<[^>]*>", " ", html)
    assert "3 ready" in words
    assert "&lt;i&gt; (2)" in words
    assert "title='&lt;i&gt;: 2 ready'" in html
    assert "alt='READY'" in html, "a line a node is left where a page takes all style out"
    pictures = [
        ElementTree.fromstring(base64.b64decode(found)) for found in re.findall(r"svg\+xml;base64,([^']*)'", html)
    ]
    whole = next(found for found in pictures if float(found.get("width", 0)) > 20)
    assert not list(whole.iter("{http://www.w3.org/2000/svg}text")), "words could be no darker or lighter than they are"


#: Of all text in the outputs: what has too little contrast with the ground that it stands on, by WCAG 2.2, 1.4.3.
FAINT = """() => {
  const rgba = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
  const ground = (part) => { for (let at = part; at; at = at.parentElement) { const c = rgba(getComputedStyle(at).backgroundColor); if (c[3]) return c; }
    return [255, 255, 255, 1]; };
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; (text = walk.nextNode());) {
    const part = text.parentElement;
    if (!text.data.trim() || !part.closest(".jp-OutputArea-output") || !part.getClientRects().length) continue;
    const [a, b] = [light(rgba(getComputedStyle(part).color)), light(ground(part))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) found.push(text.data);
  }
  return found;
}"""
#: How many pictures there are, which of them show nothing, and which words of the graph stand over others.
PICTURES = """() => {
  const all = [...document.querySelectorAll(".jp-OutputArea-output img")];
  const words = [...document.querySelectorAll(".jp-OutputArea-output div[title][style*='absolute']")].map((part) => part.getBoundingClientRect());
  const over = words.filter((a, i) => words.some((b, j) => j < i && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom));
  return { all: all.length, empty: all.filter((img) => !img.naturalWidth).length, words: words.length, over: over.length };
}"""


def _shows_all(page: Any) -> None:
    """Wait until every output is drawn, which JupyterLab does one after the other, and each picture is read."""
    for wanted in ("WAITING", "Which?", "1 waiting", "Preview of", "relax (3)", "8 of 9 tasks over", EVIL):
        page.wait_for_function("(wanted) => document.body.innerText.includes(wanted)", arg=wanted)
    page.wait_for_function(f"() => {{ const found = ({PICTURES})(); return found.words >= 25 && !found.empty; }}")
    assert page.evaluate(PICTURES)["over"] == 0
    assert page.evaluate(FAINT) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_saved_page_shows_every_view_offline(executed: Path, jupyter: Lab, theme: str) -> None:
    html, _ = HTMLExporter(theme=theme).from_notebook_node(nbformat.read(executed, as_version=4))
    path = executed.with_name(f"{theme}.html")
    path.write_text(html, encoding="utf-8")
    context = jupyter.browser.new_context(offline=True)
    page = context.new_page()
    page.set_default_timeout(180 * SECOND)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri(), wait_until="domcontentloaded")
    _shows_all(page)
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / f"saved-{theme}.png"), full_page=True)
    assert dialogs == []
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_notebook_that_nobody_trusts_shows_every_view_in_jupyterlab(executed: Path, jupyter: Lab, theme: str) -> None:
    jupyter.dark(theme == "dark")
    notebook = jupyter.open(executed)
    notebook.page.set_viewport_size({"width": 1400, "height": 3600})  # JupyterLab draws what is in sight
    is_light = "false" if theme == "dark" else "true"
    notebook.page.wait_for_selector(f"body[data-jp-theme-light='{is_light}']", state="attached")
    _shows_all(notebook.page)
    notebook.shot(f"not-trusted-{theme}")
    notebook.close()
    jupyter.dark(False)
