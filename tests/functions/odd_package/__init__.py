"""A package beside a notebook."""

from .other import OTHER


def scaled(x):
    return x * OTHER
