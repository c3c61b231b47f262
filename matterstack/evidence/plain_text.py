"""A document as Markdown: the same in words, for whoever reads it without a browser."""

from __future__ import annotations

import re

from matterstack.core.text import neutral, storable
from matterstack.evidence.document import Block, Document, Facts, Figure, Gallery, Table, Text, Words

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


def markdown_of(document: Document) -> bytes:
    """Return a document as Markdown; what others wrote in it is text, and no markup."""
    lines = [f"# {_text(document.title)}", "", f"**{_text(document.status)}**", ""]
    for block in document.head:
        lines += _block(block)
    for section in document.sections:
        lines += [f"## {_text(section.title)}", ""]
        for block in section.blocks:
            lines += _block(block)
    return storable("\n".join(lines)).encode()


def _block(block: Block) -> list[str]:
    match block:
        case Words(text):
            return [_text(text), ""]
        case Facts(rows):
            return [*(f"- {_text(name)}: {_text(said)}" for name, said in rows if said), ""]
        case Table():
            return _table(block)
        case Figure(_, caption):
            return [f"(Figure, in report.html: {_text(caption)})", ""]
        case Gallery(figures, _):
            return [f"(Pictures, in report.html: {_text(', '.join(one.caption for one in figures))})", ""]
        case Text(caption, text):
            fence = "`" * max(3, 1 + max((len(one) for one in re.findall("`+", text)), default=0))
            return [f"{_text(caption)}:", "", fence, neutral(text), fence, ""]


def _table(table: Table) -> list[str]:
    rule = ["---:" if place in table.numbers else "---" for place in range(len(table.head))]
    rows = [[_text(cell) for cell in row] for row in (table.head, *table.rows)]
    lines = [f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])]
    if table.total > len(table.rows):
        lines += ["", f"and {table.total - len(table.rows)} more: {_text(table.where)}"]
    return [*lines, ""]


def _text(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(neutral(str(text)).split()))
