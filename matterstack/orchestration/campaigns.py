"""Campaigns as a run keeps them: by an importable name, or, of one of a notebook, by its source and its data."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import re
from pathlib import Path

from matterstack.core.strict_json import parse_json
from matterstack.core.text import neutral
from matterstack.errors import CampaignError, FunctionSourceError, InvalidJsonError, UnsafeFileError
from matterstack.files import read_inside, sync_tree, write_inside
from matterstack.functions.campaign import Campaign
from matterstack.orchestration.capture import capture
from matterstack.storage.run_directory import RunDirectory

log = logging.getLogger("matterstack.campaigns")

#: What config.json says of a campaign whose source the run keeps, and of that of a single workflow.
STORED, ONE_WORKFLOW = "stored", "workflow"
_FOLDER = "campaign"
#: What it is called, what it holds and imports, and its source.
ABOUT = "campaign.json"
TEXT = "campaign.py"
#: What config.json calls the sums of these.
_SUMS = "campaign_sha256"
_MOST_BYTES = 1_000_000_000


def keep(campaign: Campaign, directory: RunDirectory) -> str | None:
    """Note in config.json how a campaign is made again, and keep its source where it has no importable name.

    Returns
    -------
    str or None
        Why it cannot be made again, so that `open_run` has to be given it.
    """
    reference, why = reference_to(campaign), None
    sums: dict[str, str] = {}
    if reference is None:
        with capture() as caught:
            folder = _new_folder(directory)
            sums = _store(campaign, directory.path / folder)
            reference = STORED if folder == _FOLDER else f"{STORED}:{folder}"
        if caught.error is not None:
            why = str(caught.error)
            if not isinstance(caught.error, FunctionSourceError):
                why = f"{type(caught.error).__name__}: {why}"
            log.debug("the campaign %s has to be passed to open_run again: %s", type(campaign).__name__, why)
    said = {"campaign": reference, "campaign_not_kept": why, _SUMS: sums}
    directory.write_config({**directory.read_config(), **said})
    return why


def sums_of(directory: RunDirectory) -> dict[str, str] | None:
    """Return the SHA-256 of each file of the campaign that a run keeps, as it was when it was kept, by its path there.

    None where nobody has taken them: in a run of an earlier version.
    """
    said = directory.read_config().get(_SUMS)
    return {str(path): str(sha256) for path, sha256 in said.items()} if isinstance(said, dict) and said else None


def why_not_kept(directory: RunDirectory) -> str:
    """Return, as the end of a sentence, why a run cannot make its campaign again; empty where nothing is known."""
    with capture():
        said = directory.read_config().get("campaign_not_kept")
        if isinstance(said, str):
            return f" (it could not be kept with the run: {neutral(said)[:500]})"
    return ""


def _new_folder(directory: RunDirectory) -> str:
    """Return the name of a folder that is not there: config.json names the one that counts, so nothing is replaced."""
    number, folder = 1, _FOLDER
    while os.path.lexists(directory.path / folder):
        number += 1
        folder = f"{_FOLDER}.{number}"
    return folder


def is_stored(reference: str) -> bool:
    """Return whether a reference is of a campaign whose source the run keeps."""
    return reference.partition(":")[0] == STORED


def folder_of(reference: str) -> str:
    """Return where in the run's directory that is."""
    folder = reference.partition(":")[2]
    return folder if re.fullmatch(rf"{_FOLDER}\.[0-9]{{1,6}}", folder) else _FOLDER


def _store(campaign: Campaign, home: Path) -> dict[str, str]:
    """Write what is kept of a campaign, and return the SHA-256 of each file."""
    from matterstack.functions.campaign_source import capture_campaign

    code = capture_campaign(campaign)
    about = {"name": code.name, "data": code.data, "packages": list(code.packages), "classes": dict(code.classes)}
    files = {
        TEXT: code.text.encode(),
        ABOUT: json.dumps(about, indent=1, ensure_ascii=False).encode() + b"\n",
        **code.modules,
        **{f"arrays/{name}": content for name, content in code.arrays.items()},
    }
    for path, content in files.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        write_inside(home, path, content)
    sync_tree(home)
    return {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}


def load(reference: str, directory: RunDirectory) -> Campaign:
    """Make a campaign again. This runs its code: ask for trust before.

    Raises
    ------
    CampaignError
        It cannot be imported, or made from what the run keeps of it.
    """
    return _rebuilt(directory.path / folder_of(reference)) if is_stored(reference) else _imported(reference)


def _rebuilt(home: Path) -> Campaign:
    from matterstack.functions.campaign_source import CampaignCode, rebuild_campaign

    with capture() as caught:
        about = parse_json(read_inside(home, ABOUT, _MOST_BYTES), max_bytes=_MOST_BYTES)
        places = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
        content = {path: read_inside(home, path, _MOST_BYTES) for path in sorted(places)}
        code = CampaignCode(
            about["name"],
            content[TEXT].decode(),
            about["data"],
            {path: text for path, text in content.items() if path.startswith("modules/")},
            {path.removeprefix("arrays/"): held for path, held in content.items() if path.startswith("arrays/")},
            tuple(about["packages"]),
            about["classes"],
        )
        campaign = rebuild_campaign(code, home)
    match caught.error:
        case None if isinstance(campaign, Campaign):
            return campaign
        case OSError() | UnsafeFileError() | InvalidJsonError() | KeyError() as error:
            why = f"what the run keeps of it in {home} is damaged: {error}"
        case error:
            why = f"{type(error).__name__}: {error}" if error is not None else "it is no Campaign"
    raise CampaignError(
        f"the campaign of the run cannot be made again ({why}): pass it to open_run(path, campaign=...)"
    ) from caught.error


def _imported(reference: str) -> Campaign:
    """Make the campaign that ``package.module:Class`` names.

    Raises
    ------
    CampaignError
        It cannot be imported, is no Campaign, or cannot be made without arguments.
    """
    module, _, name = reference.partition(":")
    with capture() as caught:
        kind = getattr(importlib.import_module(module), name)
        # Nothing of it is called before it is known to be a campaign.
        campaign = kind() if isinstance(kind, type) and issubclass(kind, Campaign) else kind
    if caught.error is not None:
        raise CampaignError(
            f"the campaign {reference} cannot be imported ({type(caught.error).__name__}: {caught.error}): put its "
            "module on the Python path, as PYTHONPATH=ITS_FOLDER does for a command, or pass the campaign to "
            "open_run(path, campaign=...)"
        ) from caught.error
    if not isinstance(campaign, Campaign):
        raise CampaignError(f"{reference} is not a Campaign: pass one to open_run(path, campaign=...)")
    return campaign


def reference_to(campaign: Campaign) -> str | None:
    """Return ``package.module:Class`` if that alone rebuilds an equal campaign, else None."""
    kind = type(campaign)
    if kind.__module__ == "__main__" or not kind.__qualname__.isidentifier():
        return None
    with capture():
        again = getattr(importlib.import_module(kind.__module__), kind.__qualname__)()
        if type(again) is kind and bool(vars(again) == vars(campaign)):
            return f"{kind.__module__}:{kind.__qualname__}"
    return None
