"""The pictures of the pages, made anew: `python tests/pictures/make.py docs/views [name ...]`.

Each is a view of a real run in JupyterLab, light and dark, all of one width: `graph.png`, `graph-dark.png`.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from browser import Lab, Notebook, lab
from PIL import Image

import matterstack as ms

RUNS = Path(__file__).with_name("runs.py")
WIDTH = 1000
#: Two pixels of a picture are one of the page, so that it is sharp on screens that are.
SCALE = 2
#: JupyterLab draws a view in a frame of its own: a run that is opened there may be stepped.
OPEN = "import matterstack as ms\nrun = ms.open_run('workspaces/{}')"


class Picture(NamedTuple):
    """A view, and what is done in it before it is taken.

    Attributes
    ----------
    run : str
        ``<workspace>/runs/<run_id>``.
    code : str
        What shows the view.
    view : str
        What is taken, as a selector.
    ready : str
        What is there when it is drawn, as a selector.
    act : callable
        What a person does in the page, before it is taken.
    height : int, optional
        So much of it, from its top.
    """

    run: str
    code: str
    view: str
    ready: str
    act: Callable[[Any], None] = lambda page: None
    height: int | None = None


def choose(key: str) -> Callable[[Any], None]:
    """Click a task of the graph, and wait for its panel."""

    def act(page: Any) -> None:
        page.locator(f'.ms-node[data-key="{key}"]').click()
        page.wait_for_selector(f".ms-panel:has-text('{key}')")

    return act


def find(page: Any) -> None:
    """Look for a task in a closed group, and go there."""
    page.fill("input[aria-label='find a task']", "relax-042")
    page.wait_for_selector("[aria-label='found']:has-text('1 found')")
    page.keyboard.press("Enter")
    page.wait_for_selector(".ms-panel:has-text('relax-042')")


def failed_first(page: Any) -> None:
    """Sort a table by status, and choose what failed."""
    page.click(".ms-table .ms-head button:has-text('status')")
    page.wait_for_selector(".ms-table [aria-sort=ascending]")
    page.locator(".ms-row[data-key='1.relax-Pd']").click()
    page.wait_for_selector(".ms-table .ms-panel:has-text('no convergence')")


def first_need(page: Any) -> None:
    """Follow the first card of a cockpit."""
    page.locator(".ms-need .ms-link").first.click()
    page.wait_for_selector(".ms-panel:has-text('1.relax-Pd')")


def look_in_log(page: Any) -> None:
    """Look for a word in a log."""
    page.fill(".ms-browse-main input[type=search]", "600")
    page.keyboard.press("Enter")
    page.wait_for_selector(".ms-browse-main .ms-current")


def choose_file(name: str, drawn: str) -> Callable[[Any], None]:
    """Choose a file of an attempt, or what it was made from."""

    def act(page: Any) -> None:
        page.click(f".ms-browse-side :text-is('{name}')")
        page.wait_for_selector(drawn)

    return act


def compare(page: Any) -> None:
    """Tick two runs."""
    page.locator(".ms-runs-box").focus()
    for key in ("Home", "Space", "ArrowDown", "ArrowDown", "Space"):
        page.keyboard.press(key)
    page.click("button:has-text('compare'):not([disabled])")
    page.wait_for_selector(".ms-comparison table")


def open_first(page: Any) -> None:
    """Open the run that needs somebody."""
    page.click("[data-key='cathodes/LiNiO2-screen'] b, [data-key='cathodes/LiNiO2-screen']")
    page.wait_for_selector(".ms-cockpit .ms-node")


def point_at_bar(page: Any) -> None:
    """Walk to a bar, so that it tells of itself."""
    page.locator(".ms-timeline canvas").focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.wait_for_selector(".ms-time-tip")


def open_results(page: Any) -> None:
    """Open the tab of results of a cockpit."""
    page.click(".lm-TabBar-tabLabel:text-is('Results')")
    page.wait_for_selector(".ms-cockpit .ms-best button")


def choose_best(page: Any) -> None:
    """Choose the fourth of the best."""
    page.locator(".ms-best button").nth(3).click()
    page.wait_for_selector(".ms-scatter .ms-panel")


def measure(page: Any) -> None:
    """Measure the distance from the first atom to the second."""
    page.locator(".ms-structure canvas").focus()
    for key in ("n", "m", "n"):
        page.keyboard.press(key)
    page.wait_for_selector(".ms-structure-told:has-text('to')")


def fill_in(page: Any) -> None:
    """Fill a form in by half."""
    form = page.locator(".ms-form")
    form.locator(".ms-choices input").first.check()
    rows = form.locator(".ms-grid tbody tr")
    for row, words in enumerate((("A1", "2.1"), ("A2", ""))):
        for cell, word in enumerate(words):
            rows.nth(row).locator("input").nth(cell).fill(word)
    form.locator(".ms-error:has-text('is missing')").first.wait_for()


_ALLOYS, _METALS, _HUNDREDS = "alloys/runs/alloys", "equations_of_state/runs/metals", "hundreds/runs/hundreds"
_FILMS, _MANY = "films/runs/films", "cathodes/runs/LiNiO2-screen"
_CRYSTAL = """from ase.spacegroup import crystal
ms.show_structure(crystal(["Li", "Co", "O"], [(0, 0, 0.5), (0, 0, 0), (0, 0, 0.26)], spacegroup=166,
                          cellpar=[2.816, 2.816, 14.05, 90, 90, 120]))"""
_RUNS = ".jp-OutputArea-output:has(.ms-runs)"  # with what is open below
_SCATTER = "run.scatter('gap_eV', 'strength_MPa', colour='T_K')"
PICTURES = {
    "functions": Picture(_METALS, "run.dag()", ".ms-dag", ".ms-node", choose("0.fit-Al")),
    "graph": Picture("surfaces/runs/surfaces", "run.dag()", ".ms-dag", ".ms-node", choose("0.slab-Pd")),
    "groups": Picture(_HUNDREDS, "run.dag()", ".ms-dag", ".ms-node"),
    "opened": Picture(_HUNDREDS, "run.dag()", ".ms-dag", ".ms-node", find),
    "table": Picture(_ALLOYS, "run.table()", ".ms-table", ".ms-row", failed_first, height=700),
    "browse": Picture(_ALLOYS, "run.browse('anneal-Cu')", ".ms-browse", ".ms-browse-main input", look_in_log),
    "file": Picture(_ALLOYS, "run.browse('relax-Cu')", ".ms-browse", ".ms-browse-main input",
                    choose_file("final.xyz", ".ms-structure canvas[data-drawn]")),
    "made-from": Picture(_ALLOYS, "run.browse('fit-Al')", ".ms-browse", ".ms-browse-main input",
                         choose_file("made from, used by", ".ms-browse-links table")),
    "cockpit": Picture(_ALLOYS, "run.watch()", ".ms-cockpit", ".ms-node", first_need),
    "workspace": Picture(_MANY, "ms.watch('cathodes')", _RUNS, "[data-key]", open_first, height=900),
    "compare": Picture(_METALS, "ms.watch('equations_of_state')", _RUNS, "[data-key]", compare, height=880),
    "timeline": Picture(_ALLOYS, "run.timeline(by='group')", ".ms-timeline", ".ms-timeline[data-bars]", point_at_bar),
    "structure": Picture(_METALS, _CRYSTAL, ".ms-structure", ".ms-structure canvas[data-drawn]", measure),
    "scatter": Picture(_FILMS, _SCATTER, ".ms-scatter", ".ms-best button", choose_best, height=700),
    "results": Picture(_FILMS, "run.watch()", ".ms-cockpit", ".ms-node", open_results, height=700),
    "form": Picture("samples/runs/samples", "run.inbox()", ".ms-form", ".ms-form .ms-choices", fill_in),
}  # fmt: skip


def arrange(notebook: Notebook, picture: Picture) -> Any:
    """Show a view at the width that all pictures have, do in it what there is to do, and return it."""
    page = notebook.page
    notebook.run_all()
    page.wait_for_selector(picture.ready, timeout=120_000)
    page.keyboard.press("Control+b")  # without the list of files
    view = page.locator(picture.view).first
    view.scroll_into_view_if_needed()
    page.set_viewport_size({"width": round(1280 + WIDTH - view.bounding_box()["width"]), "height": 1400})
    wide = "([view, width]) => Math.abs(view.getBoundingClientRect().width - width) < 4"
    page.wait_for_function(wide, arg=[view.element_handle(), WIDTH])
    page.wait_for_timeout(500)  # a view is laid out again when its size has settled
    picture.act(page)
    return view


def turn(page: Any, theme: str) -> None:
    """Choose a theme of JupyterLab, by its menu."""
    page.click(".lm-MenuBar-itemLabel:text-is('Settings')")
    page.hover(".lm-Menu-itemLabel:text-is('Theme')")
    page.click(f".lm-Menu-itemLabel:text-is('{theme}')")
    page.wait_for_selector(f"body[data-jp-theme-name='{theme}']", state="attached")


def shot(page: Any, view: Any) -> bytes:
    """Return what a view looks like."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)  # for what is drawn bit by bit
    view.scroll_into_view_if_needed()
    return bytes(view.screenshot(animations="disabled"))


def save(png: bytes, path: Path, height: int | None) -> None:
    """Write a picture in 256 colours."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    if height is not None:
        image = image.crop((0, 0, image.width, min(height * SCALE, image.height)))
    image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)


def take(jupyter: Lab, names: Sequence[str], into: Path) -> None:
    """Take pictures by name, light and dark."""
    for name in names:
        picture = PICTURES[name]
        jupyter.dark(False)
        cells = (OPEN.format(picture.run), picture.code)
        notebook = jupyter.open(jupyter.write(f"{name}.ipynb", *cells), scale=SCALE)
        try:
            view = arrange(notebook, picture)
            save(shot(notebook.page, view), into / f"{name}.png", picture.height)
            turn(notebook.page, "JupyterLab Dark")
            save(shot(notebook.page, view), into / f"{name}-dark.png", picture.height)
        except Exception:
            notebook.page.screenshot(path=into / f"{name}-went-wrong.png")
            raise
        notebook.close()
        print(name, f"{(into / f'{name}.png').stat().st_size // 1000} kB", flush=True)


def main(into: Path, names: Sequence[str]) -> None:
    """Make the runs, take the pictures, and end what is left under way."""
    with tempfile.TemporaryDirectory() as home, lab(Path(home)) as jupyter:
        made = jupyter.open(jupyter.write("runs.ipynb", RUNS.read_text()))
        made.run_all()
        try:
            made.page.wait_for_selector(".jp-OutputArea :text('all are made')", timeout=300_000)
            made.page.close()
            take(jupyter, names or list(PICTURES), into)
        finally:
            for path in Path(home).glob("workspaces/*/runs/*"):
                run = ms.open_run(path)
                if run.status in {ms.RunStatus.RUNNING, ms.RunStatus.PAUSED}:
                    run.cancel()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
