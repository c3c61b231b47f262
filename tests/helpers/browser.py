"""A real JupyterLab on loopback, and a real Chromium that opens notebooks in it."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
from ports import free_port

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
#: Where screenshots go: `.ci/run` keeps them.
SHOTS = Path(os.environ.get("MATTERSTACK_SCREENSHOTS", Path(__file__).parents[1] / "screenshots"))
SECOND = 1000.0
#: What JupyterLab itself says of a kernel that is restarted: its debugger, and what it had asked of the old one.
_OF_LAB = re.compile(
    "Could not restore the debugger state"
    "|(Error: )?Canceled future for (?!execute_)[a-z_]+_request message before replies were done"
)


class Lab:
    """A server, and the browser that looks at it.

    Parameters
    ----------
    directory : pathlib.Path
        Where its notebooks are.
    url, token : str
    browser : playwright.sync_api.Browser
    """

    def __init__(self, directory: Path, url: str, token: str, browser: Any) -> None:
        self.directory = directory
        self.url = url
        self.token = token
        self.browser = browser

    def write(self, name: str, *cells: str) -> Path:
        """Write a notebook of code cells."""
        notebook = nbformat.v4.new_notebook()
        notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
        notebook.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
        path = self.directory / name
        nbformat.write(notebook, path)
        return path

    def open(self, path: Path, scale: int = 1) -> Notebook:
        """Open a notebook in a page of its own, whose pictures have so many pixels for one of the page."""
        page = self.browser.new_page(viewport={"width": 1280, "height": 1400}, device_scale_factor=scale)
        page.set_default_timeout(180 * SECOND)
        notebook = Notebook(page)
        page.goto(f"{self.url}/lab/tree/{path.name}?token={self.token}&reset")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.wait_for_selector(
            ".jp-StatusBar-TextItem:has-text('| Idle')"
        )  # a cell that is run before is not run at all
        return notebook

    def dark(self, is_dark: bool) -> None:
        """Choose JupyterLab's theme, as its settings do."""
        settings = {"theme": "JupyterLab Dark" if is_dark else "JupyterLab Light"}
        request = urllib.request.Request(
            f"{self.url}/lab/api/settings/@jupyterlab/apputils-extension:themes?token={self.token}",
            data=json.dumps({"raw": json.dumps(settings)}).encode(),
            method="PUT",
            headers={"Content-Type": "application/json", "Authorization": f"token {self.token}"},
        )
        urllib.request.urlopen(request, timeout=30).close()


class Notebook:
    """An open notebook.

    Parameters
    ----------
    page : playwright.sync_api.Page
    """

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", self._page_error)
        page.on("console", self._console)
        page.on("dialog", self._dialog)

    def _page_error(self, error: Any) -> None:
        if not _OF_LAB.match(str(error)):
            self.errors.append(str(error))

    def _console(self, message: Any) -> None:
        if message.type == "error" and not _OF_LAB.match(message.text):
            self.errors.append(f"console: {message.text} ({message.location.get('url')})")

    def _dialog(self, dialog: Any) -> None:
        if dialog.type == "beforeunload":
            dialog.accept()
            return
        self.errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def run_all(self) -> None:
        """Run every cell; do not wait for them."""
        self.page.click(".jp-Notebook .jp-CodeCell >> nth=0")
        self.page.click("text=Run >> nth=0")
        self.page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")

    def save(self) -> None:
        """Save the notebook by its key, and wait until that is done: a page that is loaded again shows what was saved."""
        self.page.keyboard.press("Control+s")
        self.page.wait_for_selector(".jp-mod-dirty", state="detached")

    def shot(self, name: str) -> None:
        """Keep a picture of the page."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png")

    def close(self) -> None:
        """Close the page; whatever went wrong in it, on its console too, fails the test."""
        self.page.close()
        assert self.errors == [], self.errors


@contextmanager
def lab(directory: Path) -> Iterator[Lab]:
    """Start a server and a browser; skip where there is none."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: install Debian's package chromium")
    from playwright.sync_api import sync_playwright

    port = free_port()
    token = secrets.token_hex(16)
    home = directory / ".home"
    home.mkdir()
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(home / "config"), "JUPYTER_DATA_DIR": str(home / "data"),
                   "JUPYTER_RUNTIME_DIR": str(home / "runtime"), "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
                   "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"), "IPYTHONDIR": str(home / "ipython")}  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root",
               f"--IdentityProvider.token={token}", "--ServerApp.port_retries=0", "--LabApp.news_url=None",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # fmt: skip
    with open(home / "server.log", "wb") as log:
        server = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _await(server, f"{url}/api?token={token}", home / "server.log")
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=CHROMIUM, args=["--no-sandbox"], timeout=180 * SECOND
                )
                try:
                    yield Lab(directory, url, token, browser)
                finally:
                    browser.close()
        finally:
            server.terminate()
            server.wait(timeout=180)


def _await(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until the server answers."""
    import select
    import time

    until = time.monotonic() + 180
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=30).close()
            return
        except OSError:
            select.poll().poll(100)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")
