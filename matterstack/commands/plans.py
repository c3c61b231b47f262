"""Plans: what a run of one would be, before there is a run."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from matterstack.commands.command import DONE, FAILED, Commands
from matterstack.commands.output import show
from matterstack.core.text import did_you_mean
from matterstack.errors import CampaignError


def add(commands: Commands) -> None:
    """Add what looks at plans."""
    commands.heading("Begin")
    preview = commands.add(
        "preview",
        _preview,
        "Show what a run of a plan would be, and what is wrong with it; make nothing.",
        "matterstack preview screening:campaign --operators screening:operators",
        more="The module is imported from the present directory, or from where Python finds it, and so runs. Exit "
        "status 1 where something keeps the plan from being run.",
    )
    preview.add_argument(
        "plan", metavar="MODULE:NAME", help="a workflow or campaign, or what returns one when it is called"
    )
    preview.add_argument(
        "--operators",
        metavar="MODULE:NAME",
        help="operators by name, as initialize_run takes them, or what returns them (default: local)",
    )


def _preview(given: argparse.Namespace) -> int:
    from matterstack.functions.campaign import Campaign
    from matterstack.functions.workflow import Workflow
    from matterstack.run_lifecycle import preview

    sys.path.insert(0, os.getcwd())
    plan = _made(given.plan, (Workflow, Campaign))
    operators = None if given.operators is None else _made(given.operators, (Mapping,))
    found = preview(plan, operators=operators)
    counts = [row | {"function": row["function"] or None} for row in found.counts.to_dict("records")]
    rows = found.findings.itertuples(index=False, name=None)
    findings = [{"kind": kind, "task_id": task_id, "text": text} for kind, task_id, text in rows]
    show(given, {"tasks": len(found.workflow), "counts": counts, "findings": findings}, repr(found))
    return FAILED if found.errors else DONE


def _made(name: str, kinds: tuple[type, ...]) -> Any:
    """Return what is called so, as it is where it is of one of these kinds, and else what it returns.

    Raises
    ------
    CampaignError
        It cannot be imported, or made.
    """
    from matterstack.orchestration.capture import capture, describe_from_users_line

    module, _, attribute = name.partition(":")
    if not (module and attribute) or module.startswith("."):
        raise CampaignError(f"{name!r} is no MODULE:NAME, as in screening:campaign")
    with capture() as caught:
        found = _named(importlib.import_module(module), attribute)
        if not isinstance(found, kinds) and callable(found):
            found = found()
    if isinstance(caught.error, ModuleNotFoundError) and f"{module}.".startswith(f"{caught.error.name}."):
        raise CampaignError(
            f"{name} cannot be made: there is no module {caught.error.name!r} in {os.getcwd()}, nor where Python finds "
            "others"
        )
    if isinstance(caught.error, CampaignError):
        raise caught.error
    if caught.error is not None:
        raise CampaignError(f"{name} cannot be made: {describe_from_users_line(caught.error)}") from caught.error
    return found


def _named(module: ModuleType, name: str) -> Any:
    if not hasattr(module, name):
        near = did_you_mean(name, vars(module))
        raise CampaignError(f"{module.__name__}:{name} cannot be made: {module.__name__} has no {name!r}{near}")
    return getattr(module, name)
