"""Settings of a run and its operators, changed while it lives: kept in config.json, for each process's next tick."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from matterstack.core.text import did_you_mean
from matterstack.errors import InvalidConfigError, UnknownOperatorError
from matterstack.operators import describe, rebuild
from matterstack.orchestration import environment
from matterstack.orchestration.budget import Budget
from matterstack.orchestration.session import Session

log = logging.getLogger(__name__)


def configure_budget(session: Session, given: Mapping[str, Any] | None) -> None:
    """Change the budget of the run; what is not named stays, and None is no limit.

    Raises
    ------
    InvalidConfigError
        It cannot be set so; nothing was changed.
    """
    Budget.from_config({} if given is None else given)
    with session.locked():
        config = session.directory.read_config()
        changed = Budget() if given is None else replace(session.settings.budget, **given)
        session.directory.write_config({**config, "settings": {**config["settings"], "budget": asdict(changed)}})


def configure_notify(session: Session, given: object) -> None:
    """Change whom the run tells; where it told nobody, it begins with what comes from now on.

    Raises
    ------
    InvalidConfigError, MissingLibraryError
        It cannot be set so; nothing was changed.
    """
    from matterstack.notices.sinks import Notify
    from matterstack.orchestration import telling

    changed = Notify.from_config(given)
    if changed is not None:
        changed.require_usable()
    with session.locked() as store:
        config = session.directory.read_config()
        if changed is not None and session.settings.notify is None:
            telling.begin(session, store)
        said = None if changed is None else asdict(changed)
        session.directory.write_config({**config, "settings": {**config["settings"], "notify": said}})


def take_environment(session: Session) -> None:
    """Record that the run goes on in what this process runs in: its Python, packages and variables."""
    with session.locked():
        config = session.directory.read_config()
        before = (config.get("environment") or {}).get("packages", {})
        now = environment.here(session.settings.environment)
        session.directory.write_config({**config, "environment": now})
        environment.record_packages(session.directory, before)


def configure(session: Session, name: str, settings: Mapping[str, Any]) -> None:
    """Change settings of an operator; those that are not named stay.

    Raises
    ------
    UnknownOperatorError
        The run has no operator of that name.
    InvalidConfigError
        It has no such setting, the value cannot be used, or the operator is none that a run can rebuild; nothing was
        changed.
    """
    with session.locked():
        config = session.directory.read_config()
        known = config["operators"]
        if name not in known:
            raise UnknownOperatorError(f"the run has no operator {name!r}{did_you_mean(name, known)}")
        described = known[name]
        if described is None or described["settings"] is None:
            raise InvalidConfigError(
                f"the settings of {name!r} are not kept with the run, since it is made of code of yours: pass another "
                f"one to open_run(path, operators={{{name!r}: ...}})"
            )
        try:
            operator = rebuild(described["kind"], {**described["settings"], **settings})
        except TypeError as error:
            raise InvalidConfigError(f"{name!r} cannot be set like that: {error}") from error
        changed = describe(operator)
        if changed is None or changed["settings"] is None:
            raise InvalidConfigError(f"{name!r} cannot be set like that: code of yours cannot be kept with the run")
        session.directory.write_config({**config, "operators": {**known, name: changed}})
    if name in session.own:
        log.warning(
            "the settings of %r were kept with the run, but this process was given an operator of its own, which it "
            "goes on with: open_run(path) without it takes them up",
            name,
        )
