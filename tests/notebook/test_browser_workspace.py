"""All runs of a workspace in a real browser: they come and go, each opens and is let go, two are compared."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Lab, lab

import matterstack as ms

ASKS = ms.Task("pick", operator="human", instructions="Which one?", schema={"type": "object"}, assignee="Ada")


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


def make(base: Path, run_id: str, *more: ms.Task, walltime_s: int = 60) -> ms.Run:
    relax = [ms.Task(f"relax-{n}", "true", resources=ms.Resources(walltime_s=walltime_s)) for n in range(3)]
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator()}
    return ms.initialize_run(
        "cathodes", ms.Workflow([*relax, *more]), base_path=base, run_id=run_id, operators=operators
    )


def test_all_runs_are_seen_live_opened_and_compared_by_keys_alone(jupyter: Lab) -> None:
    base = jupyter.directory
    made = [make(base, f"run-{number:03}", walltime_s=60 + number) for number in range(60)]
    asks = make(base, "asks", ASKS)
    for run in (made[0], asks):
        run.step()
    (make(base, "broken").path / "state.sqlite").write_bytes(b"no database" * 100)
    notebook = jupyter.open(jupyter.write("watch.ipynb", "import matterstack as ms\nms.watch('cathodes')"))
    notebook.run_all()
    page = notebook.page
    row = "[data-key='cathodes/{}']".format
    page.wait_for_selector(row("asks"))
    sums = ["62\nruns", "1\nneeds you", "59\npending", "2\nrunning", "1\nunreadable"]
    texts = "[...document.querySelectorAll('.ms-runs-sum')].map((one) => one.innerText)"
    page.wait_for_function(f"(sums) => JSON.stringify({texts}) === JSON.stringify(sums)", arg=sums)
    assert page.locator(".ms-runs *").count() < 1000, "rows that are out of sight are not in the page"
    # What another process does is seen; only that row is sent, and nothing else is drawn otherwise.
    page.locator(row("asks")).evaluate("(line) => { line.dataset.mark = 'kept'; }")
    made[0].pause("the furnace is calibrated")
    page.wait_for_selector(f"{row('run-000')}:has-text('the furnace is calibrated')")
    assert page.get_attribute(".ms-runs", "data-patched") == '["cathodes/run-000"]'
    assert page.locator(f"{row('asks')}[data-mark='kept']").count() == 1, "a line under the pointer stays the same"
    make(base, "added")
    page.wait_for_selector(row("added"))
    shutil.rmtree(made[1].path)
    page.wait_for_selector(row("run-001"), state="detached")
    # By keys alone: to a run, open its cockpit, close it.
    box = page.locator(".ms-runs-box")
    box.focus()
    for key in ("Home", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector(".ms-cockpit .ms-canvas")
    assert page.locator(".ms-runs-open b").inner_text() == "asks"
    assert page.evaluate("() => document.activeElement.className") == "ms-runs-box", "one can go on from there"
    notebook.shot("workspace")
    page.keyboard.press("Escape")
    page.wait_for_selector(".ms-cockpit", state="detached")
    # What needs somebody leads to the inbox, and is gone when it was answered.
    page.locator(f"{row('asks')} .ms-runs-need").click()
    page.wait_for_selector(".ms-form:has-text('Which one?')")
    asks.respond("pick", {})
    page.wait_for_selector(f"{row('asks')} .ms-runs-need", state="detached")
    # Two that are ticked are compared.
    page.fill(".ms-runs-find input", "run-01")
    assert page.locator(".ms-runs-row[data-key]").count() == 10
    box.focus()
    for key in ("Home", "Space", "ArrowDown", "ArrowDown", "Space"):
        page.keyboard.press(key)
    page.locator("button:has-text('compare'):not([disabled])").press("Enter")
    page.wait_for_selector(".ms-comparison:has-text('resources.walltime_s: 70 -> 72')")
    # The page is loaded again, while the kernel lives: it is up to date, and filtered as it was.
    box.focus()
    notebook.save()  # the notebook's own keys are still its own
    made[10].step()
    page.reload()
    page.wait_for_selector(f"{row('run-010')}:has-text('RUNNING')")
    assert page.locator(".ms-runs-row[data-key]").count() == 10
    page.set_viewport_size({"width": 900, "height": 1000})
    jupyter.dark(True)
    notebook.shot("workspace-900")
    jupyter.dark(False)
    notebook.close()
