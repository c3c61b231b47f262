"""Looking for the program that a command begins with, on this machine."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import PurePath

from matterstack.core.task import FileSource, Task

#: A command for a shell that begins with a plain word; of any other, only the shell knows what it runs.
_FIRST_WORD = re.compile(r"\s*([A-Za-z0-9_./+@%-]+)(?=[\s;|&<>]|\Z)")
#: What a POSIX shell does itself, or reads as part of its grammar.
_OF_THE_SHELL = (
    " . : [ alias bg break case cd command continue do done echo elif else esac eval exec exit export false fc fg fi "
    "for getopts hash if in jobs kill newgrp printf pwd read readonly return set shift test then times trap true type "
    "ulimit umask unalias unset until wait while "
)


def missing_program(task: Task, python: str | None, path: str) -> str | None:
    """Return, as a sentence, which program a task begins with that is not there.

    Parameters
    ----------
    task : Task
    python : str or None
        What runs calls of functions.
    path : str
        Folders to look in, as ``PATH`` has them.

    Returns
    -------
    str or None
        None where it is there, or where only a shell can tell what it is.
    """
    word = _first_word(task, python)
    path = task.env.get("PATH", path)
    if word is None or path.startswith("env:"):
        return None
    if "/" in word and not word.startswith("/"):
        return _missing_here(word, task.files)
    if shutil.which(word, path=path) is not None:
        return None
    if word.startswith("/"):
        there = os.path.isfile(word)
        return f"{word} {'may not be executed' if there else 'is not there'}"
    return f"there is no program {word} in PATH"


def _first_word(task: Task, python: str | None) -> str | None:
    """Return the program that a task begins with; None where only a shell can tell."""
    command = task.command_with(python)
    if not isinstance(command, str):
        return command[0] if command else None
    found = _FIRST_WORD.match(command)
    return None if found is None or f" {found[1]} " in _OF_THE_SHELL else found[1]


def _missing_here(word: str, files: Mapping[str, FileSource]) -> str | None:
    """Judge a program that is meant to lie in the directory of its attempt."""
    path = os.path.normpath(word)
    if path.startswith("../"):
        return None
    if path not in files:
        return f"{word} is not among its files"
    source = files[path]
    if isinstance(source, str | bytes) or (isinstance(source, PurePath) and not os.access(source, os.X_OK)):
        return f"{word} may not be executed: call it by its program, as in: sh {path}"
    return None
