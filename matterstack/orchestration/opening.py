"""Opening: a session of a run that is in a directory, to look at it, or to go on with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from matterstack.core.identifiers import check_identifier
from matterstack.errors import InvalidConfigError, InvalidIdentifierError, RunNotFoundError
from matterstack.functions.campaign import Campaign, SingleWorkflow
from matterstack.operators import rebuild
from matterstack.operators.base import Operator
from matterstack.orchestration import campaigns
from matterstack.orchestration.session import Session, Settings
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from matterstack.cache import Cache


def open_session(
    path: str | os.PathLike[str], campaign: Campaign | None, operators: Mapping[str, Operator] | None
) -> Session:
    """Return a session of the run that is in a directory.

    Parameters
    ----------
    path : path-like
    campaign, operators
        As `open_run` takes them.

    Raises
    ------
    RunNotFoundError, StoreError, InvalidConfigError
        As of `open_run`.
    """
    if not isinstance(path, str | os.PathLike):
        raise RunNotFoundError(
            f"a run is opened by its directory, as run.path or the column path of matterstack.runs(), not by {path!r}"
        )
    directory = RunDirectory.at(path)
    reader = StoreReader(directory.state)
    config = directory.read_config()
    try:
        for name in config["operators"]:
            check_identifier(name, "operator name")
        rebuilt = {
            name: rebuild(described["kind"], described["settings"])
            for name, described in config["operators"].items()
            if described is not None and described["settings"] is not None
        }
        settings = Settings.from_config(config["settings"])
        reference = config["campaign"]
        cache = cache_of(config.get("cache"))
        if not (reference is None or isinstance(reference, str)):
            raise TypeError("campaign must be a text")
    except (KeyError, TypeError, AttributeError, InvalidIdentifierError) as error:
        raise InvalidConfigError(f"{directory.config} cannot be used: {type(error).__name__}: {error}") from error
    if campaign is None and reference == campaigns.ONE_WORKFLOW:
        campaign, reference = SingleWorkflow(), None
    given = rebuilt | check_operators(operators or {})
    missing = tuple(name for name in config["operators"] if name not in given)
    own = frozenset(operators or {})
    session = Session(directory, reader, given, settings, campaign, reference, missing, own, cache)
    session.campaign_kept = config["campaign"]
    return session


def check_operators(operators: Mapping[str, Operator]) -> dict[str, Operator]:
    """Return the operators that were given; raise where one is none, or is called as it cannot be."""
    if not isinstance(operators, Mapping):
        raise InvalidConfigError(
            f"operators must give each operator a name, as in {{'local': LocalOperator()}}, not {operators!r}"
        )
    for name, operator in operators.items():
        check_identifier(name, "operator name")
        if not isinstance(operator, Operator):
            raise InvalidConfigError(f"operators[{name!r}] must be an Operator object, not {operator!r}")
    return dict(operators)


def cache_of(given: Cache | str | os.PathLike[str] | None) -> Cache | None:
    """Return the cache that was given, or that in the directory that was given."""
    if given is None:
        return None
    from matterstack.cache import Cache

    return given if isinstance(given, Cache) else Cache(given)
