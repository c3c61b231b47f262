"""Plans: what a run of one would be, before there is a run."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from matterstack.commands.command import DONE, FAILED, Commands
from matterstack.commands.output import show


def add(commands: Commands) -> None:
    """Add what looks at plans."""
    commands.heading("Begin")
    preview = commands.add(
        "preview",
        _preview,
        "Show what a run of a plan would be, and what is wrong with it; make nothing.",
        "matterstack preview screening:campaign",
        more="The module is imported from the present directory, or from where Python finds it, and so runs. Exit "
        "status 1 where something keeps the plan from being run.",
    )
    preview.add_argument(
        "plan", metavar="MODULE:NAME", help="a workflow or campaign, or what returns one when it is called"
    )


def _preview(given: argparse.Namespace) -> int:
    from matterstack.run_lifecycle import preview

    found = preview(_plan(given.plan))
    counts = [row | {"function": row["function"] or None} for row in found.counts.to_dict("records")]
    rows = found.findings.itertuples(index=False, name=None)
    findings = [{"kind": kind, "task_id": task_id, "text": text} for kind, task_id, text in rows]
    show(given, {"tasks": len(found.workflow), "counts": counts, "findings": findings}, repr(found))
    return FAILED if found.errors else DONE


def _plan(name: str) -> Any:
    """Return the workflow or campaign that is called so.

    Raises
    ------
    CampaignError
        It cannot be imported, or made.
    """
    import importlib

    from matterstack.errors import CampaignError
    from matterstack.functions.campaign import Campaign
    from matterstack.functions.workflow import Workflow
    from matterstack.orchestration.capture import capture, describe_from_users_line

    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise CampaignError(f"{name!r} is no MODULE:NAME, as in screening:campaign")
    sys.path.insert(0, os.getcwd())
    with capture() as caught:
        found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, Workflow | Campaign) and callable(found):
            found = found()
    if caught.error is not None:
        raise CampaignError(f"{name} cannot be made: {describe_from_users_line(caught.error)}") from caught.error
    return found
