"""Where the views show besides JupyterLab: Notebook 7 and Voila, with no request that leaves the machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import pytest
from browser import SECOND, SHOTS, Lab, lab
from no_skips import NOT_REQUIRED

import matterstack as ms

SETUP = """
import matterstack as ms
schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
flow = ms.Workflow([ms.Task("first", "true"), ms.Task("bad", "exit 3", allow_failure=True)])
flow.add_task(ms.Task("ask", operator="human", instructions="How **many**?", schema=schema, dependencies=["first"]))
flow.add_task(ms.Task("last", "true", dependencies=["ask"]))
run = ms.initialize_run("places", flow, operators={"local": ms.LocalOperator(), "human": ms.HumanOperator()})
run.wait()
"""
#: Whether the page's kernel has answered it, as the server says: Notebook 7 does not.
READY = "async () => (await (await fetch('/api/kernels')).json()).some((k) => k.execution_state === 'idle' && k.connections)"
#: What Voila's own page asks for, its icons and formulas, and what it does without.
OF_VOILA = ("https://cdn.jsdelivr.net/npm/@fortawesome/", "https://cdnjs.cloudflare.com/ajax/libs/mathjax/")
#: Whether a cell was run, be it more than once.
RUN = "(n) => /\\[[0-9]+\\]/.test(document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')[n].textContent)"
CELLS = (SETUP, "run.watch()", "run.dag()", "run.table()", "run.inbox()")


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("places")) as running:
        yield running


def needs(package: str) -> None:
    """Skip where a package is not installed: to import it would find the folder of these tests, which is called alike."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{NOT_REQUIRED}{package} is not installed")


@contextlib.contextmanager
def opened(jupyter: Lab, url: str) -> Iterator[tuple[Any, list[str]]]:
    """Open a page that reaches this machine alone, and yield it with what it asked others for."""
    context = jupyter.browser.new_context(viewport={"width": 1280, "height": 2400})
    asked: list[str] = []

    def go(route: Any) -> None:
        if route.request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    context.route("**/*", go)
    page = context.new_page()
    page.set_default_timeout(180 * SECOND)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(f"{error} {error.stack}"))
    page.goto(url)
    try:
        yield page, asked
        assert [error for error in errors if "blob:" in error] == [], "the module of a view is a blob"
    finally:
        context.close()


def use(page: Any, place: str, jupyter: Lab) -> None:
    """See every view, answer a form, press a button, and see the views follow."""
    page.wait_for_selector(".ms-form:visible")
    for view in (".ms-cockpit .ms-node", ".ms-row:visible"):
        page.wait_for_selector(view)
    page.wait_for_function(  # in the cockpit, and alone
        """() => document.querySelectorAll('.ms-node[data-key="0.bad"][data-status="FAILED"]').length === 2"""
    )
    page.locator('.ms-node[data-key="0.bad"]').last.click()
    page.wait_for_selector(".ms-panel h4:has-text('0.bad')")
    page.locator(".ms-form:visible input").fill("seven")
    page.wait_for_selector(".ms-error:has-text('must be a whole number') >> visible=true")
    page.locator(".ms-form:visible input").fill("7")
    page.locator(".ms-submit:visible").click()
    page.wait_for_selector(".ms-note:has-text('answered; the next step') >> visible=true")
    page.click("button[data-name='Run']")
    page.wait_for_selector('.ms-row[data-key="0.last"]:has-text("COMPLETED") >> visible=true')
    page.wait_for_function(
        """() => document.querySelectorAll('.ms-node[data-key="0.last"][data-status="COMPLETED"]').length === 2"""
    )
    page.wait_for_selector(".ms-head-title b:text-is('COMPLETED')")
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / f"{place}.png"))
    runs = jupyter.directory / "workspaces/places/runs"
    run = ms.open_run(max(runs.iterdir(), key=lambda path: path.stat().st_mtime))
    assert run.results.loc["0.ask", "x"] == 7


def run_cell(page: Any, number: int) -> None:
    """Run a cell, and once more where it was not: on a busy machine the page may not have its kernel yet."""
    from playwright.sync_api import TimeoutError as PageTimeoutError

    begun = "(n) => /[*0-9]/.test(document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')[n].textContent)"
    for _ in range(30):
        page.locator(".jp-CodeCell .jp-InputPrompt").nth(number).click()
        page.keyboard.press("Shift+Enter")
        with contextlib.suppress(PageTimeoutError):
            page.wait_for_function(begun, arg=number, timeout=6 * SECOND)
            return
    raise AssertionError(f"cell {number} is not run")


def test_notebook_7_shows_the_views_live_and_offline(jupyter: Lab) -> None:
    needs("notebook")
    path = jupyter.write("classic.ipynb", *CELLS)
    with opened(jupyter, f"{jupyter.url}/notebooks/{path.name}?token={jupyter.token}") as (page, asked):
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.wait_for_function(READY)  # a cell that is run before is not run at all
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")
        for number in range(len(CELLS)):
            run_cell(page, number)
            page.wait_for_function(RUN, arg=number)
        use(page, "notebook-7", jupyter)
        cells = page.locator(".jp-Notebook .jp-Cell").count()
        for focused in (".ms-canvas >> nth=0", ".ms-legend button >> nth=0", ".ms-rows >> visible=true"):
            page.locator(focused).focus()
            for key in ("a", "b", "d", "d", "z"):
                page.keyboard.press(key)
        page.locator(".jp-CodeCell .jp-InputPrompt").first.click()
        page.keyboard.press("b")  # which makes a cell, and after all that was a command before
        page.wait_for_function(f"() => document.querySelectorAll('.jp-Notebook .jp-Cell').length > {cells}")
        assert page.locator(".jp-Notebook .jp-Cell").count() == cells + 1
        assert asked == []


def test_voila_shows_the_views_live_and_offline(jupyter: Lab) -> None:
    needs("voila")
    path = jupyter.write("app.ipynb", *CELLS)
    with opened(jupyter, f"{jupyter.url}/voila/render/{path.name}?token={jupyter.token}") as (page, asked):
        use(page, "voila", jupyter)
        assert [url for url in asked if not url.startswith(OF_VOILA)] == [], "the views ask nobody"
