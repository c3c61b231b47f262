"""The tables in the documents are those of the code. Run this file to write them anew."""

from __future__ import annotations

import re
from pathlib import Path

from matterstack.core.attempt_files import TABLE, Family
from matterstack.core.states import ATTEMPT_TRANSITIONS, RUN_TRANSITIONS, TASK_TRANSITIONS

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
NAMES = ROOT / "docs" / "attempt-directory.md"
BLOCK = re.compile(r"(?<=<!-- tables: begin -->\n).*?(?=<!-- tables: end -->)", re.DOTALL)


def tables() -> str:
    """Return the three tables as Markdown."""
    parts = []
    for name, table in (("run", RUN_TRANSITIONS), ("task", TASK_TRANSITIONS), ("attempt", ATTEMPT_TRANSITIONS)):
        rows = [f"| {name} | event → next |", "|---|---|"]
        for status, moves in table.items():
            rows.append(f"| {status} | {', '.join(f'{event} → {to}' for event, to in moves.items()) or 'none'} |")
        parts.append("\n".join(rows))
    return "\n" + "\n\n".join(parts) + "\n\n"


def test_status_tables_are_those_of_the_code() -> None:
    (found,) = BLOCK.findall(PAGE.read_text())
    assert found == tables(), "run `python tests/test_docs.py`"


def names() -> str:
    """Return the table of names in an attempt's directory as Markdown, a part for each family."""
    parts = []
    for family in Family:
        rows = [f"### {family.capitalize()}\n", "| name | written by | what it is |", "|---|---|---|"]
        rows += [f"| `{entry.name}` | {entry.writer} | {entry.meaning} |" for entry in TABLE if entry.family is family]
        parts.append("\n".join(rows))
    return "\n" + "\n\n".join(parts) + "\n\n"


def test_the_page_of_an_attempts_directory_is_that_of_the_code() -> None:
    (found,) = BLOCK.findall(NAMES.read_text())
    assert found == names(), "run `python tests/test_docs.py`"


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), ROOT / "tests/README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


if __name__ == "__main__":
    NAMES.write_text(BLOCK.sub(lambda _: names(), NAMES.read_text()))
    PAGE.write_text(BLOCK.sub(lambda _: tables(), PAGE.read_text()))
