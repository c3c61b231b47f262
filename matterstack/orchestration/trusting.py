"""Trust in a run: what stepping it would run, in plain words, and whether somebody has said that it may."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from matterstack.core.text import neutral
from matterstack.errors import InvalidConfigError
from matterstack.orchestration import campaigns
from matterstack.storage import trust
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory

_MOST_SHOWN = 60


def key_of(directory: RunDirectory) -> str:
    """Return the random key of a run; empty for one that has none, or whose config.json cannot be read."""
    try:
        key = directory.read_config().get("key", "")
    except InvalidConfigError:
        return ""
    return key if isinstance(key, str) else ""


def is_trusted(directory: RunDirectory) -> bool:
    """Return whether this user may step a run."""
    return trust.is_trusted(directory.path, key_of(directory))


def trust_run(directory: RunDirectory) -> None:
    """Record that this user may step a run."""
    trust.record_run(directory.path, key_of(directory))


def would_run(directory: RunDirectory, reader: StoreReader) -> str:
    """Return what stepping a run would run: its commands, operators, whom it tells, its campaign."""
    left = reader.commands_left()
    parts = ["1 command or function" if left == 1 else f"{left} commands and functions"]
    try:
        config = directory.read_config()
    except InvalidConfigError as error:
        return f"{parts[0]}, and what its config.json names, which cannot be read ({error})"
    operators = config.get("operators")
    for name, said in operators.items() if isinstance(operators, Mapping) else ():
        parts.append(_operator(str(name), said if isinstance(said, Mapping) else {}))
    made_in = config.get("environment")
    python = made_in.get("python") if isinstance(made_in, Mapping) else None
    if python not in (None, sys.executable):
        parts.append(f"a daemon would step it with {_short(python)}")
    settings = config.get("settings")
    notify = settings.get("notify") if isinstance(settings, Mapping) else None
    if isinstance(notify, Mapping) and isinstance(notify.get("to"), list):
        parts.append(f"it tells {', '.join(_short(sink) for sink in notify['to'])}")
    campaign = config.get("campaign")
    if isinstance(campaign, str) and campaigns.is_stored(campaign):
        parts.append(f"its campaign, whose source is in {campaigns.folder_of(campaign)}/")
    elif campaign not in (None, "workflow"):
        parts.append(f"the campaign {_short(campaign)}")
    return "; ".join(parts)


def _operator(name: str, said: Mapping[str, Any]) -> str:
    settings = said.get("settings")
    text = f"operator {_short(name)} ({_short(said.get('kind', 'of its own'))}"
    if isinstance(settings, Mapping):
        for setting in ("notify", "preamble", "host", "address", "python", "handlers"):
            if settings.get(setting):
                text += f", {setting} {_short(settings[setting])}"
    return text + ")"


def _short(value: object) -> str:
    text = neutral(value if isinstance(value, str) else repr(value)).replace("\n", " ")
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
