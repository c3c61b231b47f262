"""Pairs that commands are given as one word each: a name, and its text, path or JSON."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def key_and_text(text: str) -> tuple[str, str]:
    """Return ``NAME=VALUE`` in two."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return key, value


def key_and_path(text: str) -> tuple[str, Path]:
    """Return ``NAME=PATH`` in two."""
    key, value = key_and_text(text)
    return key, Path(value)


def key_and_json(text: str) -> tuple[str, Any]:
    """Return ``KEY=JSON`` in two."""
    from matterstack.core.strict_json import parse_json
    from matterstack.errors import InvalidJsonError

    key, value = key_and_text(text)
    try:
        return key, parse_json(value.encode(errors="surrogateescape"))
    except InvalidJsonError as error:
        raise argparse.ArgumentTypeError(f"{value!r} is no JSON: {error}. A text is quoted: '{key}=\"...\"'") from None
