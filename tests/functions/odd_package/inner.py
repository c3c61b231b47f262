from . import other
from .other import OTHER as renamed


def deep():
    return [other.OTHER, renamed]
