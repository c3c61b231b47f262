"""Limits across runs: how much there is, who holds what of it and who waits, and giving back what is lost."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matterstack.commands.command import DONE, Commands
from matterstack.commands.output import Table, moment, show
from matterstack.commands.pairs import key_and_json
from matterstack.commands.places import add_workspace, workspace_place
from matterstack.errors import RunNotFoundError

if TYPE_CHECKING:
    from matterstack.core.limits import Standing

_COLUMNS = ("name", "amount", "held", "by", "waiting")


def add(commands: Commands) -> None:
    """Add what shows and sets the limits of a workspace."""
    commands.heading("Limits across runs")
    limits = commands.add(
        "limits",
        _limits,
        "Show the limits of a workspace, who holds what of them and who waits; or set some.",
        "matterstack limits oxides vasp_license=4 furnace=null",
        more="What is held stays held: with a lower limit nothing new starts until enough is given back. 0 lets "
        "nothing new start, null takes the limit away. See docs/limits.md.",
    )
    add_workspace(limits)
    limits.add_argument(
        "amounts",
        metavar="NAME=AMOUNT",
        nargs="*",
        default=[],  # or argparse says that one has to be given
        type=_name_and_amount,
        help="how much there is from now on",
    )
    limits.add_argument("--new", action="store_true", help="make the workspace if there is none of that name")
    release = commands.add(
        "release-reservations",
        _release,
        "Give back, on your word, what a run holds that cannot be found any more.",
        "matterstack release-reservations oxides r1",
        more="Of a run that is there, only what is over is given back: its own next step would do so too.",
    )
    add_workspace(release)
    release.add_argument("run_id", metavar="RUN_ID", help="id of the run, as matterstack limits names it")


def _name_and_amount(text: str) -> tuple[str, Any]:
    name, amount = key_and_json(text)
    if name == "base_path":
        raise argparse.ArgumentTypeError("no limit can be called base_path: --base-path says where workspaces/ is")
    return name, amount


def _limits(given: argparse.Namespace) -> int:
    from matterstack.storage.limits import Ledger
    from matterstack.workspace import set_limits

    base, name = _place(given)
    if given.amounts:
        set_limits(name, base_path=base, **dict(given.amounts))
    rows = _rows(Ledger(base / "workspaces" / name).standing())
    shown = [row | {"by": _in_words(row["by"]), "waiting": ", ".join(row["waiting"])} for row in rows]
    show(given, {"limits": rows}, Table(_COLUMNS, shown, "The workspace has no limits."))
    return DONE


def _place(given: argparse.Namespace) -> tuple[Path, str]:
    """Return base path and name of the workspace, which need not be there yet where limits are set with ``--new``."""
    try:
        return workspace_place(given.workspace, given.base_path)
    except RunNotFoundError as error:
        if not given.amounts or os.sep in given.workspace:
            raise
        if not given.new:
            raise RunNotFoundError(f"{error}; --new makes it", path=error.path) from None
        return Path(given.base_path).absolute(), given.workspace


def _rows(standing: Standing) -> list[dict[str, Any]]:
    """Return a row per limit, and for what is held or waited for without one."""
    from matterstack.core.limits import amount_of

    return [
        {
            "name": name,
            "amount": amount_of(standing.amounts, name),
            "held": standing.held(name),
            "by": [
                {"run_id": one.holder.run_id, "amount": one.amount, "since": moment(one.since)}
                for one in standing.shares
                if one.name == name
            ],
            "waiting": [one.holder.run_id for one in standing.waiters if one.name == name],
        }
        for name in standing.names()
    ]


def _in_words(shares: list[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['run_id']} ({one['amount']})" for one in shares)


def _release(given: argparse.Namespace) -> int:
    from matterstack.workspace import release_reservations

    base, name = workspace_place(given.workspace, given.base_path)
    released = release_reservations(name, given.run_id, base)
    show(given, {"released": released}, f"Given back: what {released} attempts held.")
    return DONE
