"""The campaign of docs/coming-from.md, by MatterStack's own script: killed in the middle, and gone on with."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "tests/benchmarks/coming_from"
PAGE = ROOT / "docs/coming-from.md"


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch):
    """The program that makes the page's table, as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import compare

    return compare


def test_a_member_that_is_done_is_not_done_again_after_the_driver_was_killed(compare, tmp_path, request) -> None:
    campaign = compare.campaign("matterstack", Path(sys.executable), tmp_path / "copper")
    request.addfinalizer(campaign.end_all)
    campaign.environment["PYTHONPATH"] += f":{ROOT}"
    facts = compare.kill_and_go_on(campaign, quiet_s=0.2)
    assert facts["exit code, going on"] == 0, campaign.output
    assert facts["the member in flight ended"]
    assert not facts["member in flight begun again"]
    assert facts["done again"] == []
    begun = campaign.noted("begin")
    assert sorted(begun) == ["0.96", "0.98", "1.00", "1.02", "1.04", "1.06", "fit"]
    assert facts["fit"] == "5 members: Atoms with its energy (SinglePointCalculator), 1 constraint, info ['scale']"
    assert "NotImplementedError: No EMT-potential for Fe" in campaign.output
    assert facts["processes left"] == 0


def test_the_page_shows_the_scripts_as_they_are_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    scripts = [path.read_text() for path in SCRIPTS.glob("*.py")]
    assert len(blocks) >= 3
    for block in blocks:
        assert any(block in script for script in scripts), block


def test_the_page_names_the_versions_that_are_pinned(compare) -> None:
    text = PAGE.read_text()
    for wanted in {wanted for requirements in compare.REQUIREMENTS.values() for wanted in requirements}:
        name, version = re.sub(r"\[.*\]", "", wanted).split("==")
        assert f"{name} {version}" in text, wanted


def test_the_page_tells_the_lines_of_the_scripts(compare) -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    (counted,) = [row[1:] for row in rows if row[0] == "lines of code"]
    assert counted == [str(compare.lines_of_code(compare.script_of(tool))) for tool in compare.REQUIREMENTS]
