"""Keys of files: their paths as a page can hold them, whatever bytes are in these."""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

from matterstack.errors import UnsafePathError


def key_of(path: str) -> str:
    """Return the key of a path.

    Examples
    --------
    >>> key_of("out/M" + chr(0xDCFC) + "ller %.dat")
    'out/M%FCller%20%25.dat'
    """
    return quote(path.encode("utf-8", "surrogateescape"), safe="/")


def path_of(key: object) -> str:
    """Return the path of a key; what a page sends may be anything.

    Raises
    ------
    UnsafePathError
        It is no text.
    """
    if not isinstance(key, str):
        raise UnsafePathError(f"{key!r} is no path")
    return unquote_to_bytes(key).decode("utf-8", "surrogateescape")
