"""Secrets among variables: which names hold one, and text without their values."""

from __future__ import annotations

from collections.abc import Collection, Mapping

#: A value whose name holds one of these is never written down, whoever asks for it.
_WORDS = ("TOKEN", "SECRET", "KEY", "PASSWORD", "PASSWD", "CREDENTIAL")
#: What is shorter stands in many words by chance.
_SHORTEST = 6


def is_secret_name(name: str) -> bool:
    """Return whether the value of a variable of this name is taken for a secret."""
    return any(word in name.upper() for word in _WORDS)


def masked(text: str, variables: Mapping[str, str], names: Collection[str] = ()) -> str:
    """Return text with ``env:NAME`` in place of the values of secret variables.

    Parameters
    ----------
    text : str
    variables : mapping of str to str
        Of this process.
    names : collection of str
        Variables that are secret whatever they are called.

    Examples
    --------
    >>> masked("cannot reach https://ada:hunter22@x.org", {"MAIL_PASSWORD": "hunter22"})
    'cannot reach https://ada:env:MAIL_PASSWORD@x.org'
    """
    secret = [(name, value) for name, value in variables.items() if is_secret_name(name) or name in names]
    for name, value in sorted(secret, key=lambda pair: -len(pair[1])):
        if len(value) >= _SHORTEST:
            text = text.replace(value, f"env:{name}")
    return text
