"""The site as it is built from docs/: without a warning, whole, with no dead link, and offline."""

from __future__ import annotations

import inspect
import subprocess
import sys
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from browser import CHROMIUM, SECOND

import matterstack as ms
from matterstack import errors

ROOT = Path(__file__).parent.parent


class Page(HTMLParser):
    """What a page leads to, what one can lead to in it, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in {"stylesheet", "preload", "icon"}:
            self.loads.append(given["href"])
        elif "src" in given:
            self.loads.append(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("myst_nb", reason="not required: the extra `docs` is not installed")
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html", "docs", str(built)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return built


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def methods(home: str, owner: type) -> Iterator[str]:
    for name, value in vars(owner).items():
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property | classmethod)):
            yield f"{home}.{name}"


def public_names() -> Iterator[str]:
    """Return each public name, methods among them."""
    for name in ms.__all__:
        value = getattr(ms, name)
        if inspect.ismodule(value):
            for inner in value.__all__:
                yield f"{value.__name__}.{inner}"
                if inspect.isclass(getattr(value, inner)):
                    yield from methods(f"{value.__name__}.{inner}", getattr(value, inner))
        elif name != "__version__":
            yield f"matterstack.{name}"
            if inspect.isclass(value):
                yield from methods(f"matterstack.{name}", value)
    yield from (f"matterstack.errors.{name}" for name, value in vars(errors).items() if inspect.isclass(value))


def names_told(site: Path) -> set[str]:
    header, _, packed = (site / "objects.inv").read_bytes().partition(b"using zlib.\n")
    assert header
    return {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}


def test_every_public_name_has_a_place_in_the_reference(site: Path) -> None:
    told = names_told(site)
    missing = [name for name in public_names() if name not in told]
    assert not missing


def test_what_a_run_answers_with_has_a_place_in_the_reference(site: Path) -> None:
    members = [value.fget if isinstance(value, property) else value for value in vars(ms.Run).values()]
    asked = [one for one in [*members, ms.preview, ms.compare, ms.inbox] if inspect.isfunction(one)]
    given = {one.__annotations__.get("return", "") for one in asked if not one.__name__.startswith("_")}
    views = {"Cockpit"} | {text for text in given if text.endswith("View")}  # docs/views.md has those
    ours = {text for text in given if text.isidentifier()} - views - {"Any", "Path", "bool", "int", "str", "None"}
    assert {"Preview", "Explanation", "Verification"} <= ours
    assert ours <= {name.rpartition(".")[2] for name in names_told(site)}


def test_links_and_anchors_lead_somewhere(pages: dict[Path, Page]) -> None:
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = target in pages and unquote(parts.fragment) in pages[target].anchors
            if not there and (target.suffix == ".html" or not target.exists()):
                dead.append(f"{path.name}: {link}")
    assert not dead, "\n".join(dead)


def test_each_error_has_the_anchor_that_its_note_names(site: Path, pages: dict[Path, Page]) -> None:
    names = {name.lower() for name, value in vars(errors).items() if inspect.isclass(value)}
    assert names <= pages[site / "troubleshooting.html"].anchors


def test_a_page_loads_nothing_from_elsewhere(pages: dict[Path, Page]) -> None:
    assert not {load for page in pages.values() for load in page.loads if urlsplit(load).netloc}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: install Debian's package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=180 * SECOND)
        yield opened
        opened.close()


def page_of(browser: Any, **options: Any) -> Any:
    page = browser.new_context(offline=True, **options).new_page()
    page.set_default_timeout(180 * SECOND)
    return page


def test_the_search_finds_an_error_without_a_network(site: Path, browser: Any) -> None:
    page = page_of(browser)
    page.goto(f"{(site / 'search.html').as_uri()}?q=RunLockedError")
    page.locator('#search-results a[href*="troubleshooting.html"]').first.wait_for()


#: What stands beyond the right edge of its page, and in nothing that can be scrolled.
CUT_OFF = """() => {
  const article = document.querySelector('.bd-article') || document.querySelector('.bd-main');
  const edge = article.getBoundingClientRect().right + 1;
  const scrolls = (element) => element !== article
    && (getComputedStyle(element).overflowX !== 'visible' || scrolls(element.parentElement));
  return [...article.querySelectorAll(':not(.headerlink)')]
    .filter((element) => element.getBoundingClientRect().right > edge && !scrolls(element.parentElement))
    .map((element) => element.textContent.trim().slice(0, 60));
}"""


@pytest.mark.parametrize(
    "name",
    ["howto/codes", "troubleshooting", "reference/errors", "reference/settings", "reference/options", "genindex"]
    + [f"reference/api/matterstack.{name}" for name in ("Run", "SlurmOperator", "initialize_run")],
)
def test_a_page_is_whole_on_a_narrow_screen(site: Path, browser: Any, name: str) -> None:
    page = page_of(browser, viewport={"width": 400, "height": 800})
    page.goto((site / f"{name}.html").as_uri())
    assert page.evaluate(CUT_OFF) == []
    page.close()


def test_what_is_copied_from_an_example_can_be_typed(site: Path, browser: Any) -> None:
    page = page_of(browser)
    page.goto((site / "howto/move-a-run.html").as_uri())
    block = page.locator("div.highlight pre", has_text=">>>").first
    copied = block.evaluate("(pre) => { getSelection().selectAllChildren(pre); return getSelection().toString(); }")
    assert "import matterstack as ms" in copied
    assert ">>>" not in copied
    assert "RunStatus" not in copied
