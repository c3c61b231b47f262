"""Structures that are turned, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browser import Lab, Notebook, lab

SETUP = """
import matterstack as ms
from ase.build import bulk
salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
def moved(number):
    frame = salt.copy()
    frame.positions[1, 0] += 0.1 * number
    return frame
def grown(edge_A: float):
    return bulk("NaCl", "rocksalt", a=edge_A, cubic=True)
"""
RUN = """
flow = ms.Workflow()
flow.add("salt", grown, 5.64)
run = ms.initialize_run("structures", flow)
run.wait()
run.dag()
"""
#: Turns a canvas by as many keys as there are pictures in two seconds, and returns how many of each.
TURN = """async (canvas) => {
  const before = Number(canvas.dataset.drawn), start = performance.now();
  let keys = 0;
  for (; performance.now() - start < 2000; keys++) {
    canvas.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true }));
    await new Promise((next) => requestAnimationFrame(next));
  }
  return [keys, Number(canvas.dataset.drawn) - before];
}"""
SETTLED = """async (canvas) => {
  for (let same = 0, drawn = ''; same < 5; same = drawn === canvas.dataset.drawn ? same + 1 : 0) {
    drawn = canvas.dataset.drawn;
    await new Promise((next) => requestAnimationFrame(next));
  }
  return canvas.toDataURL();
}"""
GROUND = "(canvas) => [...canvas.getContext('2d').getImageData(2, 2, 1, 1).data].slice(0, 3)"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


def opened(jupyter: Lab, name: str, *cells: str) -> Notebook:
    notebook = jupyter.open(jupyter.write(name, SETUP, *cells))
    notebook.run_all()
    return notebook


def told(notebook: Notebook, text: str) -> None:
    notebook.page.wait_for_selector(f".ms-structure-told:has-text('{text}')")


def picture(canvas: Any) -> str:
    """Return what is drawn, when nothing more is being drawn."""
    return str(canvas.evaluate(SETTLED))


def drawn_anew(notebook: Notebook, canvas: Any, before: str) -> str:
    """Wait for another picture than that before."""
    notebook.page.wait_for_function("([canvas, before]) => canvas.toDataURL() !== before", arg=[canvas, before])
    return picture(canvas)


def test_a_trajectory_is_turned_measured_and_played_by_keys_and_by_mouse(jupyter: Lab) -> None:
    jupyter.dark(False)
    notebook = opened(jupyter, "turn.ipynb", "ms.show_structure([moved(number) for number in range(30)])")
    page = notebook.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    canvas = page.wait_for_selector(".ms-structure canvas[data-drawn]")
    first = picture(canvas)
    canvas.focus()
    page.keyboard.press("ArrowRight")
    turned = drawn_anew(notebook, canvas, first)
    page.keyboard.press("0")
    assert drawn_anew(notebook, canvas, turned) == first
    page.keyboard.press("n")
    told(notebook, "Na 0: 0.000, 0.000, 0.000 Å")
    page.keyboard.press("m")
    page.keyboard.press("n")
    told(notebook, "Na 0 to Cl 1: 2.820 Å")
    page.keyboard.press("PageDown")
    told(notebook, "Na 0 to Cl 1: 2.920 Å")
    assert page.inner_text(".ms-structure-foot .ms-note") == "frame 2 of 30"
    page.keyboard.press("Escape")
    page.wait_for_selector(".ms-structure-told", state="hidden")
    page.keyboard.press("Space")
    page.wait_for_function("() => Number(document.querySelector('.ms-structure-foot input').value) > 4")
    page.click("button[aria-label='pause']")
    page.keyboard.press("Escape")
    page.fill(".ms-structure-foot input", "0")
    box = canvas.bounding_box()
    before = picture(canvas)
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 360, box["y"] + 240, steps=3)
    page.mouse.up()
    before = drawn_anew(notebook, canvas, before)
    page.click("button[aria-label='look along c']")
    before = drawn_anew(notebook, canvas, before)
    page.select_option("select[aria-label='images of the cell']", "2")
    drawn_anew(notebook, canvas, before)
    notebook.shot("structure")
    jupyter.dark(True)
    page.keyboard.press("Control+s")
    page.wait_for_selector(".lm-DockPanel-tabBar .lm-mod-current:not(.jp-mod-dirty)")
    page.reload()
    canvas = page.wait_for_selector(".ms-structure canvas[data-drawn]")
    page.wait_for_function(f"(canvas) => Math.max(...({GROUND})(canvas)) < 80", arg=canvas)  # that of the theme
    notebook.shot("structure-dark")
    assert [url for url in asked if "127.0.0.1" not in url and not url.startswith(("data:", "blob:"))] == []
    notebook.close()


def test_a_large_structure_is_drawn_whole_when_one_asks(jupyter: Lab) -> None:
    notebook = opened(jupyter, "large.ipynb", "ms.show_structure(salt * (5, 5, 5))")
    page = notebook.page
    canvas = page.wait_for_selector(".ms-structure canvas[data-drawn]")
    page.wait_for_selector(".ms-structure .ms-note:text-is('500 of 1,000 atoms')")
    keys, drawn = canvas.evaluate(TURN)
    print(f"500 atoms: {drawn / 2:.0f} pictures a second")
    assert 0 <= keys - drawn <= 2, "each turn is a picture"
    page.click("text=draw all 1,000 atoms")
    page.wait_for_selector(".ms-structure .ms-note:text-is('1,000 atoms')")
    assert page.locator("text=draw all").is_hidden()
    notebook.close()


def test_the_panel_of_a_task_opens_its_structure(jupyter: Lab) -> None:
    notebook = opened(jupyter, "panel.ipynb", RUN)
    page = notebook.page
    page.locator('.ms-node[data-key="0.salt"]').click()
    page.click("text=turn in 3D")
    page.wait_for_selector("dialog[open] .ms-structure canvas[data-drawn]")
    page.keyboard.press("n")
    told(notebook, "Na 0")
    notebook.shot("structure-dialog")
    page.keyboard.press("Escape")  # of the atom, then of the dialog
    page.wait_for_selector(".ms-structure-told", state="hidden")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    assert page.evaluate("() => document.activeElement.textContent") == "turn in 3D"
    assert page.locator(".ms-panel").is_visible()
    notebook.close()
