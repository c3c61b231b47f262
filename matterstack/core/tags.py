"""Tags: words of your own, by which runs and tasks are found again."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Any

MOST_TAGS = 32
LONGEST_TAG = 64


def tags_of(given: Any, invalid: Callable[[str, object], Exception]) -> tuple[str, ...]:
    """Return tags as they are kept: composed (NFC), each once, in the order they were given in.

    Parameters
    ----------
    given : str or sequence of str
        One, or several.
    invalid : callable
        Makes the error, of the rule that is broken and of what breaks it.

    Examples
    --------
    >>> tags_of(["cathode", "batch 2", "cathode"], lambda rule, value: ValueError(rule))
    ('cathode', 'batch 2')
    """
    words = [given] if isinstance(given, str) else given
    if not isinstance(words, list | tuple):
        raise invalid("must be words in a list", given)
    found: dict[str, None] = {}
    for word in words:
        tag = unicodedata.normalize("NFC", word).strip() if isinstance(word, str) else ""
        if not (0 < len(tag) <= LONGEST_TAG and tag.isprintable() and "," not in tag):
            raise invalid(f"must be of 1 to {LONGEST_TAG} characters that can be seen, and no comma", word)
        found[tag] = None
    if len(found) > MOST_TAGS:
        raise invalid(f"must be {MOST_TAGS} at most", list(found))
    return tuple(found)


def tags_in(text: object) -> tuple[str, ...]:
    """Return the tags of a JSON list; of a database of somebody else, where it may be anything, the texts."""
    if not isinstance(text, str):
        return ()
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    return tuple(tag for tag in said if isinstance(tag, str)) if isinstance(said, list) else ()
