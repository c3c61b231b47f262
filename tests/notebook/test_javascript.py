"""The JavaScript of the views as code: its functions by node, and the same in Python where both have it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from matterstack.notebook.moments import in_words

JS = Path(__file__).with_name("js")
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="there is no node: install Debian's package nodejs")


def node(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(NODE), *arguments], cwd=JS, capture_output=True, text=True, timeout=120, check=False)


@needs_node
@pytest.mark.parametrize("name", sorted(path.name for path in JS.glob("*.test.mjs")))
def test_functions_of_the_views(name: str) -> None:
    done = node("--test", "--test-reporter=tap", name)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "# tests 0" not in done.stdout


@needs_node
def test_a_duration_is_told_alike_in_the_page_and_by_python() -> None:
    seconds = [0, 0.4, 1, 59, 61, 3599, 3600, 3661, 86399, 86400, 90061, 1e7, *(7.3 * 1.7**n for n in range(30))]
    script = "import { load } from './load.mjs'; const { span } = load([], ['span']);"
    script += f"console.log(JSON.stringify({json.dumps(seconds)}.map(span)));"
    done = node("--input-type=module", "--eval", script)
    assert json.loads(done.stdout) == [in_words(number) for number in seconds], done.stderr
