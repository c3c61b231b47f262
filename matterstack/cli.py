"""``matterstack COMMAND ...``: everything that a run, a workspace and what is around them can do, from a shell."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import textwrap
from collections.abc import Sequence

from matterstack import __version__
from matterstack.commands import (
    acts,
    answers,
    evidence,
    finding,
    health,
    kits,
    left,
    limits,
    plans,
    room,
    runs,
    steps,
    tables,
    watching,
)
from matterstack.commands.command import FAILED, INTERRUPTED, LOCKED, NOBODY_READS, USAGE, Commands
from matterstack.commands.output import write_error
from matterstack.commands.places import RULE
from matterstack.commands.remedies import as_typed
from matterstack.core.text import did_you_mean
from matterstack.errors import MatterstackError, RunLockedError

#: In the order in which the help lists them.
_NOUNS = (runs, watching, tables, left, finding, plans, steps, answers, acts, limits, kits, evidence, room, health)
EXIT_CODES = {
    0: "done",
    1: "an error; a run that is FAILED after step or wait; what check, verify, doctor or preview found, or runs and "
    "find could not read",
    2: "wrong usage",
    75: "another process steps the run: try again",
    130: "interrupted (Ctrl-C)",
    141: "whoever was to read the output went away",
}


def build() -> Commands:
    """Return all commands."""
    parser = argparse.ArgumentParser(
        prog="matterstack",
        description=textwrap.fill(
            f"Look at runs, step them, and act on them. Looking changes nothing, and needs no trust. {RULE}",
            100,
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"matterstack {__version__}")
    commands = Commands(parser)
    for noun in _NOUNS:
        noun.add(commands)
    codes = "\n".join(f"  {code:3}  {meaning}" for code, meaning in EXIT_CODES.items())
    parser.epilog = (
        f"{commands.listed()}\n\nmatterstack COMMAND --help tells more, with an example. "
        f"Each takes --json.\n\nexit status:\n{codes}"
    )
    return commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        One of `EXIT_CODES`.
    """
    _open_what_is_closed()
    commands = build()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what it may complete
        import argcomplete

        argcomplete.autocomplete(commands.parser)
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words:
        commands.parser.print_help(sys.stderr)
        return USAGE
    known = {command.name.split()[0] for command in commands.all}
    if not words[0].startswith("-") and words[0] not in known:
        commands.parser.error(
            f"there is no command {words[0]!r}{did_you_mean(words[0], known)}; matterstack --help lists them"
        )
    given, left = commands.parser.parse_known_args(words)
    if left:
        given.parser.refuse(left)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files, in whatever code
    try:
        given.out = sys.stdout
        # What a campaign or an operator prints is no part of the document.
        with contextlib.redirect_stdout(sys.stderr) if given.json else contextlib.nullcontext():
            code: int = given.do(given)
        sys.stdout.flush()
        return code
    except RunLockedError as error:
        return _said(as_typed(str(error), given), LOCKED, _see(error, given))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes there, at the end
        return NOBODY_READS
    except (MatterstackError, OSError) as error:
        return _said(as_typed(f"{type(error).__name__}: {error}", given), FAILED, _see(error, given))
    except KeyboardInterrupt:
        return _said(given.when_stopped, INTERRUPTED)


def _open_what_is_closed() -> None:
    """Let a standard stream that came closed be the null device, or the next file that is opened gets its number."""
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - for as long as the process lives


def _said(text: str, code: int, see: Sequence[str] = ()) -> int:
    write_error("\n".join([text, *see]))
    return code


def _see(error: BaseException, given: argparse.Namespace) -> Sequence[str]:
    """Return where more is told of an error, a line each; nothing for a program."""
    return () if given.json else getattr(error, "__notes__", ())
