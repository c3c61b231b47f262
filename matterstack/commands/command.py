"""A command of the command line: its words, its help with an example, and what it does."""

from __future__ import annotations

import argparse
import copy
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from matterstack.core.text import did_you_mean, neutral

#: Exit codes. sysexits.h calls 75 a temporary failure: try again. What a signal ends has 128 and its number.
DONE, FAILED, USAGE, LOCKED, INTERRUPTED, NOBODY_READS = 0, 1, 2, 75, 130, 141
_WIDTH = 100
_LISTS = ("*", "+", "?")


class Command(NamedTuple):
    """One command.

    Attributes
    ----------
    name : str
        With the group it is in, as ``kits export``.
    heading : str
        What it stands under in the help.
    said : str
        What it does, in a line.
    example : str
    parser : argparse.ArgumentParser
    schema : str
        Name of the file in ``schemas/`` that says what ``--json`` writes.
    """

    name: str
    heading: str
    said: str
    example: str
    parser: argparse.ArgumentParser
    schema: str

    @property
    def usage(self) -> str:
        """Its name, and what it takes besides options."""
        shapes: dict[object, str] = {None: "{}", "?": "[{}]", "*": "[{} ...]", "+": "{} ..."}
        actions = self.parser._get_positional_actions()  # noqa: SLF001 - argparse lists them nowhere else
        taken = (shapes[action.nargs].format(action.metavar) for action in actions)
        return " ".join([self.name, *taken])


class _Parser(argparse.ArgumentParser):
    """A parser of a command, for which words may also stand after options: ``retry RUN --memory-gib 64 TASK``.

    By itself argparse takes a list of words as empty where an option comes before them, and refuses them then.
    """

    _is_mixing = False

    def error(self, message: str) -> NoReturn:
        """End with the usage; words of the call, as a shell completes them from names of files, are harmless in it."""
        super().error(neutral(message))

    def refuse(self, words: Sequence[str]) -> NoReturn:
        """End with the usage of this command, and not that of all, where it does not know words."""
        known = self._option_string_actions
        said = ", ".join(
            f"{word}{did_you_mean(word.partition('=')[0], known) if word[:1] == '-' else ''}" for word in words
        )
        self.error(f"unrecognized arguments: {said}")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse words and options in their order, and where words are left over in any; that comes here again."""
        found, left = super().parse_known_args(args, copy.copy(namespace))
        if self._is_mixing or not left or not any(action.nargs in _LISTS for action in self._get_positional_actions()):
            return found, left
        self._is_mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_mixing = False


class Commands:
    """All commands, each added by the module of its noun.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Gets them as sub-commands.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser
        self.all: list[Command] = []
        self._group = ""
        self._heading = ""
        self._subparsers = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def heading(self, text: str) -> None:
        """Put what is added from now on under a heading."""
        self._heading = text

    def group(self, name: str, said: str) -> Commands:
        """Return commands that begin with a word in common, to add to."""
        parser = self._subparsers.add_parser(
            name, description=said, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        inner = Commands(parser)
        inner.all, inner._group, inner._heading = self.all, f"{name} ", self._heading
        return inner

    def add(
        self,
        name: str,
        do: Callable[[argparse.Namespace], int],
        said: str,
        example: str,
        *,
        more: str = "",
        schema: str | None = None,
        when_stopped: str = "interrupted",
    ) -> argparse.ArgumentParser:
        """Add a command, which takes ``--json``; return its parser, to add arguments to.

        Parameters
        ----------
        name : str
        do : callable
            Does it with what was given, and returns the exit code. It imports what it needs: the rest stays quick.
        said : str
            What it does, in a line.
        example : str
            As somebody would type it.
        more : str
            The rest of its help.
        schema : str, optional
            Name of the file in ``schemas/`` that says what ``--json`` writes; by default the command's.
        when_stopped : str
            What an interrupt means.
        """
        whole = f"{self._group}{name}"
        paragraphs = [textwrap.fill(text, _WIDTH) for text in (said, more) if text]
        parser = self._subparsers.add_parser(
            name,
            description="\n\n".join(paragraphs),
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # or a script would break when an option comes that begins so, too
        )
        parser.add_argument("--json", action="store_true", help="write one JSON document instead of text")
        parser.set_defaults(do=do, when_stopped=when_stopped, parser=parser)
        self.all.append(Command(whole, self._heading, said, example, parser, schema or whole.replace(" ", "-")))
        if self._group:
            self.parser.epilog = self.listed()
        return parser

    def listed(self) -> str:
        """Return all of them, by heading, for the help of the whole or the group."""
        lines: list[str] = []
        known = [command for command in self.all if command.name.startswith(self._group)]
        widest = max(len(command.name) for command in known)
        for heading in dict.fromkeys(command.heading for command in known):
            lines += ["", f"{heading}:"]
            for command in known:
                if command.heading == heading:
                    said = textwrap.fill(command.said, _WIDTH, subsequent_indent=" " * (widest + 4))
                    lines.append(f"  {command.name:{widest}}  {said}")
        return "\n".join(lines[1:])
