"""The site as it is built from docs/: without a warning, whole, with no dead link, and offline."""

from __future__ import annotations

import inspect
import subprocess
import sys
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import CHROMIUM

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
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
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


def test_every_public_name_has_a_place_in_the_reference(site: Path) -> None:
    header, _, packed = (site / "objects.inv").read_bytes().partition(b"using zlib.\n")
    assert header
    told = {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}
    missing = [name for name in public_names() if name not in told]
    assert not missing


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


def test_the_search_finds_an_error_without_a_network(site: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: install Debian's package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(offline=True).new_page()
        page.goto(f"{(site / 'search.html').as_uri()}?q=RunLockedError")
        page.locator('#search-results a[href*="troubleshooting.html"]').first.wait_for()
        browser.close()
