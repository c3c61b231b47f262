"""The report: one page that needs nothing else, in which nothing of others runs, and which says what is known."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from evidence_lab import HOSTILE
from large_run import large_run

import matterstack as ms
from matterstack.platforms import user_name

PARTS = [
    "What was asked",
    "Where it stands",
    "Results",
    "What failed",
    "Who was asked, and what they answered",
    "What each attempt took and left",
    "Where and when it ran",
    "What is in this export",
    "Source of what ran",
]


class Page(HTMLParser):
    """What is on a page: its elements, their attributes, its text, its headings."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.heads: list[str] = []
        self._head = False
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._head = tag == "h2"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._head:
            self.heads.append(data)
            self._head = False


@pytest.fixture(scope="module")
def home(ended: ms.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ended.export(tmp_path_factory.mktemp("report") / "e")


def test_the_report_says_what_is_known(home: Path, ended: ms.Run) -> None:
    page = Page(home / "report.html")
    assert page.heads == PARTS
    for said in (
        "Run first of metals",
        "Metals, whose source is campaign/campaign.py",
        "energy_eV min",
        "energy (eV)",
        "exit code 3; stderr ends with: SCF did not converge",
        "tried again; the task is FAILED",
        "accepted",
        "best so far: energy_eV -9.5 (1.refine)",
        "the plan",
        "def relax(metal: str, a_ang: float)",
        "Python 3.",
    ):
        assert said in page.text, said
    record = json.loads((home / "evidence.json").read_text())
    sums = {one["sha256"] for attempt in record["attempts"] for one in (*attempt["inputs"], *attempt["outputs"])}
    assert len(sums) > 8
    assert all(sha256 in page.text for sha256 in sums)
    (answer,) = (attempt["answer"] for attempt in record["attempts"] if "answer" in attempt)
    assert answer["sha256"] in page.text
    pictures = [value for name, value in page.attributes if name == "src"]
    assert len(pictures) > 4
    assert f"{len(ended.tasks)}: 5 completed, 1 failed" in page.text


def lattice(metal: str) -> dict[str, float]:
    return {"a_ang": 3.6}


def fit(whole: object, lengths: dict[str, float]) -> float:
    return lengths["Cu"]


def test_the_report_names_the_task_whose_value_a_call_takes(tmp_path: Path) -> None:
    flow = ms.Workflow()
    given = flow.add("Cu", lattice, "Cu")
    flow.add("fit", fit, given, {"Cu": given["a_ang"]})
    there = ms.initialize_run("w", flow, base_path=tmp_path).export(tmp_path / "e")
    assert "whole (given by Cu), lengths (Cu (given by Cu: a_ang))" in Page(there / "report.html").text


def test_the_page_needs_nothing_and_runs_nothing(home: Path) -> None:
    page = Page(home / "report.html")
    assert HOSTILE in page.text
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "form", "base"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    loads = [value for name, value in page.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert all(value.startswith(("data:image/", "#part-")) for value in loads)
    assert any(value.startswith("default-src 'none'") for name, value in page.attributes if name == "content")
    assert not re.search(r"url\(|@import", (home / "report.html").read_text())


def test_the_same_stands_in_the_text(home: Path) -> None:
    text = (home / "report.md").read_text()
    assert re.findall("^## (.*)$", text, re.M) == [re.sub(r"([_*])", r"\\\1", part) for part in PARTS]
    assert "exit code 3; stderr ends with: SCF did not converge" in text
    assert HOSTILE not in text.partition("## Source of what ran")[0]


def test_a_large_run_makes_a_small_report_that_says_where_the_rest_is(tmp_path: Path) -> None:
    home = large_run(tmp_path, 3000).export(tmp_path / "e")
    page = (home / "report.html").read_text()
    assert len(page) < 300_000
    assert page.count("python scf.py --structure") == 1  # of 750 such tasks
    assert re.search(r"and \d+ more: tables/attempts.csv", page)
    assert len((home / "tables/tasks.csv").read_text().splitlines()) == 3001


@pytest.mark.parametrize("kinds", [3, 9])
def test_tasks_that_give_the_same_quantities_share_a_table(kinds: int, tmp_path: Path) -> None:
    """As long as there are a few such tables, and not one a task."""
    flow = ms.Workflow()
    for kind in range(kinds):
        for number in range(2):
            flow.add_task(ms.Task(f"t{kind}-{number}", f"echo '{{\"q{kind}_eV_per_ang\": 1}}' > result.json"))
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    run.wait(timeout_s=180)
    text = (run.export(tmp_path / "e", files="none") / "report.md").read_text()
    assert re.findall("^Given by (.*):$", text, re.M) == (
        [f"0.t{kind}-0 and 1 more" for kind in range(3)] if kinds == 3 else ["other tasks"]
    )
    assert "| task | q0 (eV/Å) |" in text


def test_a_browser_shows_it_light_and_dark_and_on_paper(home: Path, tmp_path: Path) -> None:
    if (program := shutil.which("chromium")) is None:
        pytest.skip("no Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=180_000)
        grounds = set()
        for scheme in ("light", "dark"):
            context = browser.new_context(color_scheme=scheme, viewport={"width": 1100, "height": 900}, offline=True)
            page = context.new_page()
            page.set_default_timeout(180_000)
            troubles: list[str] = []
            page.on("console", lambda said, troubles=troubles: troubles.append(said.text))
            page.goto((home / "report.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert troubles == []
            context.close()
        assert grounds == {"rgb(255, 255, 255)", "rgb(20, 23, 26)"}
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.set_default_timeout(180_000)
        page.goto((home / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert len(page.pdf(format="A4")) > 10_000
        browser.close()


def test_the_report_says_what_people_changed_and_what_a_cache_gave(tmp_path: Path) -> None:
    def planned(run_id: str) -> ms.Run:
        flow = ms.Workflow(
            [
                ms.Task("relax", "grep 0.05 INCAR > OUTCAR", files={"INCAR": b"0.5"}, outputs=["OUTCAR"]),
                ms.Task("melts", "exit 2", on_failure="ask"),
                ms.Task("known", "echo x > x", outputs=["x"], cache=True),
            ]
        )
        return ms.initialize_run("w", flow, base_path=tmp_path, run_id=run_id, cache=tmp_path / "cache")

    planned("first").wait(timeout_s=180)
    run = planned("second")
    run.wait(timeout_s=180)
    run.respond("melts", {"decision": "skip", "comment": "it is <liquid>"})
    run.retry("relax", files={"INCAR": b"0.05"})
    run.tag("paper")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    home = run.export(tmp_path / "e")
    text = Page(home / "report.html").text
    for said in (
        "tagspaper",
        "tried again with files INCAR; the task is COMPLETED",
        "the task is SKIPPED: exit code 2; skip: a person's word: it is <liquid>",
        "0.relax.2tookINCARa change of the plan",
        "0.relax.2made withfiles INCARa change of the plan",
        "0.known.1first 0.known.1",
        f"{user_name()}retry0.relaxretried by a person, with files INCAR",
        f"{user_name()}tagthe runpaper",
    ):
        assert said in text, said
    assert "0.relax.1tookINCARthe plan" in text
