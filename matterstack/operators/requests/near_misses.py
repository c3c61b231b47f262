"""Files whose names are almost those of an answer, and what to do about them."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Sequence

#: What computers and people put behind a name: a second download, a copy, a conflict of a sync client.
_COPY = re.compile(r"[ _-]*(\(.{1,80}\)|\d{1,3}|copy|kopie|copie|final)\Z")
_JSON, _TABLE = frozenset({"json", "jsonc", "json5", "jsn", "txt"}), frozenset({"csv", "tsv"})
_WORKBOOK, _DOCUMENT = frozenset({"xlsx", "xls", "xlsm", "ods"}), frozenset({"doc", "docx", "rtf", "odt", "pdf", "md"})


def find_near_miss(names: Iterable[str], stem: str, taken: Sequence[str]) -> str | None:
    """Return in plain words which file is nearly an answer, and what to do; None where none is.

    Parameters
    ----------
    names : iterable of str
        What lies in the directory.
    stem : str
        The answer's name without its ending.
    taken : sequence of str
        The endings that are read here, such as ``.json``.

    Examples
    --------
    >>> find_near_miss(["schema.json", "response.json.txt"], "response", [".json"])
    'there is response.json.txt: rename it to response.json'
    """
    for name in sorted(names):
        endings = _endings_of(name, stem)
        if endings is not None:
            return f"there is {name}: {_advice(endings, stem, taken)}"
    return None


@functools.lru_cache(maxsize=4096)  # the same names lie there at every look
def _endings_of(name: str, stem: str) -> frozenset[str] | None:
    """Return the endings of a name that is nearly that of an answer; None for another one."""
    if name.startswith(("~$", ".")):
        return None  # an editor's own
    words = name.casefold().split(".")
    base = words[0].strip()
    while base != (shorter := _COPY.sub("", base)):
        base = shorter
    endings = frozenset(word.strip() for word in words[1:])
    if not endings <= _JSON | _TABLE | _WORKBOOK | _DOCUMENT:
        return None
    return endings if difflib.SequenceMatcher(None, base[:100], stem).ratio() >= 0.85 else None


def _advice(endings: frozenset[str], stem: str, taken: Sequence[str]) -> str:
    if endings & _DOCUMENT:
        return f"save it as plain text, and name it {stem}.json"
    is_table = bool(endings & (_WORKBOOK | _TABLE))
    if is_table and ".csv" not in taken:
        return f"no table is asked for, so answer in {stem}.json"
    if "xlsx" in endings and ".xlsx" in taken:
        return f"rename it to {stem}.xlsx"
    if endings & _WORKBOOK:
        return f"in Excel choose 'Save As', 'CSV UTF-8 (comma delimited)', and name it {stem}.csv"
    return f"rename it to {stem}{'.csv' if is_table else '.json'}"
