"""The environment that a run was made in: its Python, its folder, packages, and variables whose names are allowed."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from matterstack.core.secrets import is_secret_name
from matterstack.errors import InvalidConfigError
from matterstack.files import read_inside
from matterstack.functions.revision import folder_of_script
from matterstack.orchestration import campaigns
from matterstack.storage.run_directory import RunDirectory

#: What a run records without being asked: nothing that names a person or opens a door.
_ALLOWED = (
    "PATH", "LANG", "LC_*", "TZ", "VIRTUAL_ENV", "CONDA_*", "LD_LIBRARY_PATH", "PYTHONPATH", "MODULEPATH",
    "LOADEDMODULES", "OMP_*", "MKL_*", "OPENBLAS_*", "CUDA_VISIBLE_DEVICES", "SLURM_CONF", "SCRATCH",
    "TMPDIR",
)  # fmt: skip
#: What belongs to whoever steps, not to the run: where their files and their agents are.
_OF_WHO_STEPS = (
    "HOME", "USER", "LOGNAME", "SHELL", "XDG_*", "MATTERSTACK_*", "SSH_AUTH_SOCK", "KRB5CCNAME",
)  # fmt: skip
_MOST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Environment:
    """What a run was made in.

    Attributes
    ----------
    python : str
        Path of the interpreter.
    version : str
        Of it.
    folder : str
        Where its script or notebook was: modules beside it can be imported.
    variables : dict of str to str
        Those on the allow-list.
    secrets : list of str
        Names that were asked for and whose values are not written down: whoever steps has to have them.
    packages : dict of str to str
        Versions of the installed packages that its campaign and its functions import.
    """

    python: str
    version: str
    folder: str
    variables: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    packages: dict[str, str] = field(default_factory=dict)


def here(names: Iterable[str]) -> dict[str, Any]:
    """Return what this process runs in, for config.json.

    Parameters
    ----------
    names : iterable of str
        Variables that the user allows besides.
    """
    allowed = (*_ALLOWED, *names)
    known = {name: value for name, value in os.environ.items() if _matches(name, allowed) and value.isprintable()}
    made_in = Environment(
        python=sys.executable,
        version=platform.python_version(),
        folder=str(folder_of_script()),
        variables={name: value for name, value in sorted(known.items()) if not is_secret_name(name)},
        secrets=sorted(name for name in names if is_secret_name(name) and "*" not in name),
    )
    return asdict(made_in)


def record_packages(directory: RunDirectory, packages: Iterable[str]) -> None:
    """Record the versions of what functions of a run import, and its campaign.

    Parameters
    ----------
    directory : RunDirectory
    packages : iterable of str
        Top-level names that its functions import; those of its campaign are looked up.
    """
    config = directory.read_config()
    imported = sorted({*packages, *_of_campaign(directory, config)})
    if found := {name: version for name in imported if (version := _version(name)) is not None}:
        directory.write_config({**config, "environment": {**config["environment"], "packages": found}})


def recorded(directory: RunDirectory) -> Environment | None:
    """Return what a run was made in; None for one that was made before this was recorded.

    Raises
    ------
    InvalidConfigError
        config.json cannot be used.
    """
    said = directory.read_config().get("environment")
    if said is None:
        return None
    try:
        found = Environment(**said)
        texts = (found.python, found.version, found.folder, *found.secrets)
        pairs = (*found.variables.items(), *found.packages.items())
        if not all(isinstance(text, str) and "\0" not in text for pair in (texts, *pairs) for text in pair):
            raise TypeError("holds what is no text")
        if any("=" in name for name in found.variables):
            raise TypeError("names a variable that cannot be one")
    except (TypeError, AttributeError) as error:
        raise InvalidConfigError(f"{directory.config}: environment cannot be used: {error}") from error
    return found


def variables_of_addresses(directory: RunDirectory) -> list[str]:
    """Return the variables that hold addresses of whom a run tells: passed on where they are set, and never needed."""
    from matterstack.notices.sinks import Notify

    settings = directory.read_config().get("settings")
    notify = Notify.from_config(settings.get("notify") if isinstance(settings, Mapping) else None)
    return [] if notify is None else notify.variables


def variables_for(made_in: Environment, own: Mapping[str, str], also: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables to step a run with: those it was made with, and those of whoever steps it.

    Parameters
    ----------
    made_in : Environment
    own : mapping of str to str
        Variables of this process.
    also : iterable of str
        Further ones of these.
    """
    allowed = (*_OF_WHO_STEPS, *made_in.secrets, *also)
    return {**made_in.variables, **{name: value for name, value in own.items() if _matches(name, allowed)}}


def why_not_same(made_in: Environment) -> str | None:
    """Return in what this process differs from what a run was made in, and the way out; None where it does not."""
    differences = [f"the variable {name} is not set" for name in made_in.secrets if name not in os.environ]
    if platform.python_version() != made_in.version:
        differences.append(f"Python {made_in.version} is {platform.python_version()} now")
    for name, version in made_in.packages.items():
        if (found := _version(name)) != version:
            differences.append(f"{name} {version} is {found or 'not there'} now")
    if not differences:
        return None
    return (
        f"{made_in.python} is not what the run was made with: {', '.join(differences)}. Mend that, or step the run "
        "once by hand and say that what is there now is right: run.take_environment()"
    )


def check_names(given: object) -> tuple[str, ...]:
    """Return names of variables, as ``config={"environment": [...]}`` gives them.

    Raises
    ------
    InvalidConfigError
        They are none.
    """
    if isinstance(given, list | tuple) and all(
        isinstance(name, str) and name.removesuffix("*").isidentifier() and name.isascii() for name in given
    ):
        return tuple(given)
    raise InvalidConfigError(
        f"config: environment must list names of variables to record, as in ['VASP_PP_PATH', 'ASE_*'], not {given!r}"
    )


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _version(package: str) -> str | None:
    import importlib.metadata  # a single workflow of commands has no packages

    try:
        return importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None  # not everything is called as what installs it; it is not watched then


def _of_campaign(directory: RunDirectory, config: Mapping[str, Any]) -> set[str]:
    """Return the packages that the run's campaign imports, or is in."""
    reference = config.get("campaign")
    if reference is None or reference == campaigns.ONE_WORKFLOW:
        return set()
    if not campaigns.is_stored(reference):
        return {reference.partition(":")[0].partition(".")[0]}
    with contextlib.suppress(OSError, ValueError, KeyError):
        about = json.loads(read_inside(directory.path / campaigns.folder_of(reference), campaigns.ABOUT, _MOST_BYTES))
        return set(about["packages"])
    return set()
