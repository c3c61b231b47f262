"""The page of a document: one HTML file that needs no script and no network, for a screen, light or dark, and paper."""

from __future__ import annotations

from html import escape

from matterstack.core.states import RunStatus
from matterstack.core.text import neutral
from matterstack.evidence.document import Block, Document, Facts, Figure, Gallery, Section, Table, Text, Words
from matterstack.notebook.pictures import glyph
from matterstack.notebook.statuses import RUN_LOOKS

#: Characters of a cell that is not broken into lines.
_SHORT = 26
_STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --text: #1d2126; --pale: #5c6670; --line: #d9dee3;
  --panel: #f6f8fa; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --text: #e3e7eb; --pale: #9aa5b0; --line: #343b42;
  --panel: #1c2126; --link: #79b8ff; } }
* { box-sizing: border-box; }
html { background: var(--ground); }
body { margin: 0 auto; max-width: 1040px; padding: 32px 28px 64px; color: var(--text); background: var(--ground);
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, "Liberation Sans", sans-serif; }
h1 { font-size: 27px; line-height: 1.25; margin: 0 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 40px 0 12px; padding-top: 12px; border-top: 1px solid var(--line); }
p { margin: 10px 0; max-width: 76ch; overflow-wrap: anywhere; }
a { color: var(--link); }
nav ol { margin: 18px 0 0; padding: 12px 12px 12px 34px; columns: 2; column-gap: 32px; background: var(--panel);
  border: 1px solid var(--line); border-radius: 6px; }
nav li { break-inside: avoid; }
.status { display: inline-block; padding: 1px 12px 1px 9px; border: 1px solid var(--line); border-left-width: 5px;
  border-radius: 4px; font-weight: 600; font-size: 14px; }
dl { display: grid; grid-template-columns: minmax(104px, max-content) 1fr; gap: 3px 20px; margin: 14px 0; }
dt { color: var(--pale); }
dd { margin: 0; overflow-wrap: anywhere; white-space: pre-line; }
.wide { overflow-x: auto; margin: 12px 0; }
table { border-collapse: collapse; font-size: 13.5px; line-height: 1.4; }
main > section > .wide > table { width: 100%; }
th { text-align: left; font-weight: 600; border-bottom: 2px solid var(--line); padding: 5px 14px 5px 0;
  vertical-align: bottom; }
td { border-bottom: 1px solid var(--line); padding: 5px 14px 5px 0; vertical-align: top; overflow-wrap: anywhere;
  white-space: pre-line; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.text { min-width: 9em; }
td.short { white-space: nowrap; overflow-wrap: normal; }
td.hash, th.hash { min-width: 17em; }
code { font: 11.5px/1.35 ui-monospace, "DejaVu Sans Mono", Consolas, monospace; overflow-wrap: anywhere; }
.more { color: var(--pale); font-size: 13.5px; margin: 4px 0 12px; }
figure { margin: 18px 0; }
figcaption { color: var(--pale); font-size: 13.5px; margin-top: 6px; max-width: 90ch; overflow-wrap: anywhere; }
figure img, figure svg { max-width: 100%; height: auto; }
.drawn { overflow-x: auto; }
.drawn img { max-width: none; }
.gallery { display: flex; flex-wrap: wrap; gap: 14px; }
.gallery figure { margin: 0; width: 172px; }
.gallery img { width: 172px; height: auto; }
.gallery.large figure { width: 316px; max-width: 100%; }
.gallery.large img { width: auto; max-height: 316px; background: #ffffff; }
details { margin: 12px 0; border: 1px solid var(--line); border-radius: 6px; background: var(--panel); }
summary { cursor: pointer; padding: 7px 12px; }
pre { margin: 0; padding: 4px 14px 12px; overflow-x: auto; font: 12px/1.45 ui-monospace, "DejaVu Sans Mono", Consolas,
  monospace; }
@media (max-width: 560px) {
  body { padding: 20px 16px 40px; }
  nav ol { columns: 1; }
  .drawn > svg { min-width: 560px; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin: 0 0 8px; }
}
@media print {
  :root { color-scheme: light; --ground: #ffffff; --text: #000000; --pale: #444444; --line: #bbbbbb; --panel: #ffffff; }
  @page { margin: 16mm 14mm; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  nav { display: none; }
  h2 { break-after: avoid; margin-top: 22px; }
  p { break-after: avoid; }
  tr, .gallery figure, dl > * { break-inside: avoid; }
  thead { display: table-header-group; }
  table { font-size: 8.5pt; }
  td.text { min-width: 0; }
  code { font-size: 7pt; }
  td.hash, th.hash { min-width: 15em; }
  .wide, .drawn { overflow: visible; }
  .drawn > div, .drawn > svg { zoom: 0.82; }
  figure { break-inside: avoid; }
  details::details-content { content-visibility: visible; }
  pre { white-space: pre-wrap; font-size: 8pt; }
  details > summary { list-style: none; }
  a { color: inherit; text-decoration: none; }
}
"""


def page_of(document: Document) -> bytes:
    """Return a document as a page; all text in it is escaped, and nothing in it can run or load anything."""
    looks = {str(status): look for status, look in RUN_LOOKS.items()}
    look = looks.get(document.status, RUN_LOOKS[RunStatus.PENDING])
    status = f"<div class='status' style='border-left-color:{look.colour}'>{glyph(look)} {_text(document.status)}</div>"
    listed = "".join(
        f"<li><a href='#part-{number}'>{_text(section.title)}</a></li>"
        for number, section in enumerate(document.sections, 1)
    )
    sections = "".join(_section(number, section) for number, section in enumerate(document.sections, 1))
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{_text(document.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{_text(document.title)}</h1>{status}{''.join(map(_block, document.head))}"
        f"<nav aria-label='Contents'><ol>{listed}</ol></nav></header>\n<main>\n{sections}</main>\n</body>\n</html>\n"
    ).encode("utf-8", "backslashreplace")


def _section(number: int, section: Section) -> str:
    blocks = "\n".join(map(_block, section.blocks))
    return f"<section><h2 id='part-{number}'>{_text(section.title)}</h2>\n{blocks}\n</section>\n"


def _block(block: Block) -> str:
    match block:
        case Words(text):
            return f"<p>{_text(text)}</p>"
        case Facts(rows):
            return (
                "<dl>"
                + "".join(f"<dt>{_text(name)}</dt><dd>{_text(said)}</dd>" for name, said in rows if said)
                + "</dl>"
            )
        case Table():
            return _table(block)
        case Figure(html, caption):
            return f"<figure><div class='drawn'>{html}</div><figcaption>{_text(caption)}</figcaption></figure>"
        case Gallery(figures, are_large):
            some = (f"<figure>{one.html}<figcaption>{_text(one.caption)}</figcaption></figure>" for one in figures)
            return f"<div class='gallery{' large' if are_large else ''}'>{''.join(some)}</div>"
        case Text(caption, text):
            return f"<details><summary>{_text(caption)}</summary><pre>{_text(text)}</pre></details>"


def _table(table: Table) -> str:
    kinds = [_kind(table, place) for place in range(len(table.head))]
    head = "".join(f"<th{kind} scope='col'>{_text(name)}</th>" for kind, name in zip(kinds, table.head, strict=True))
    lines = "".join(
        "<tr>"
        + "".join(
            f"<td{kind}>{f'<code>{_text(cell)}</code>' if place in table.hashes else _text(cell)}</td>"
            for place, (kind, cell) in enumerate(zip(kinds, row, strict=True))
        )
        + "</tr>"
        for row in table.rows
    )
    more = ""
    if table.total > len(table.rows):
        more = f"<p class='more'>and {table.total - len(table.rows)} more: {_text(table.where)}</p>"
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>{more}"


def _kind(table: Table, place: int) -> str:
    """Return the class of a column: numbers stand to the right, what is short is not broken, what is long has room."""
    if place in table.numbers:
        return " class='number'"
    if place in table.hashes:
        return " class='hash'"
    return " class='short'" if all(len(row[place]) <= _SHORT for row in table.rows) else " class='text'"


def _text(text: str) -> str:
    return escape(neutral(str(text)))
