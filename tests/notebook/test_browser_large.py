"""A large run in a real browser: what a page holds of it does not grow with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import Lab, lab
from large_run import large_run

SIZE = 30_000
MOST_NODES = 3000
COUNT = "() => document.querySelectorAll('.ms-cockpit *').length"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


def test_a_page_holds_as_much_of_a_large_run_as_of_a_small_one(jupyter: Lab) -> None:
    run = large_run(jupyter.directory, SIZE)
    # All that a very large run does: the first rows and the counts at once, the rest when a thread has read it.
    begin = "import matterstack as ms\nfrom matterstack.notebook import follower\nfollower._MOST_AT_ONCE = 1000"
    show = f"cockpit = ms.open_run({str(run.path)!r}).watch()\ncockpit"
    notebook = jupyter.open(jupyter.write("large.ipynb", begin, show))
    page = notebook.page
    notebook.run_all()
    page.wait_for_selector(".ms-node")
    assert page.locator(".ms-node").count() == 4
    page.wait_for_selector(".ms-head-counts:has-text('100 running'), .ms-cockpit:has-text('100 running')")
    assert page.evaluate(COUNT) < MOST_NODES
    notebook.shot("large-graph")
    page.click(".lm-TabBar-tab:has-text('Table') >> visible=true")
    page.wait_for_selector(f".ms-table [role=status]:text-is('{SIZE} of {SIZE}')")
    assert page.evaluate(COUNT) < MOST_NODES
    page.click(".ms-head button:text-is('task')")
    page.wait_for_selector(".ms-row:has-text('0.bands-0')")
    page.fill("input[aria-label='filter by text']", "no convergence")
    page.wait_for_selector(f".ms-table [role=status]:text-is('{SIZE * 9 // 10 // 50} of {SIZE}')")
    page.fill("input[aria-label='filter by text']", "")
    page.wait_for_selector(f".ms-table [role=status]:text-is('{SIZE} of {SIZE}')")
    page.evaluate("() => { const rows = document.querySelector('.ms-rows'); rows.scrollTop = rows.scrollHeight; }")
    page.wait_for_selector(f".ms-row:has-text('0.scf-{SIZE // 4 - 1}')")
    assert page.evaluate(COUNT) < MOST_NODES
    notebook.shot("large-table")
    notebook.close()
