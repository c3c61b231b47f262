"""Places that commands are told: of a run and a workspace, by path or by name; and what a shell completes there."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matterstack.errors import InvalidIdentifierError, MatterstackError, RunNotFoundError

RULE = (
    "RUN is the directory of a run, or else WORKSPACE/RUN_ID. WORKSPACE is the directory of a workspace, or else its "
    "name. PLACE is either. Names are looked for in workspaces/ below --base-path, which is the present directory by "
    "default. TASK is the id of a task, of the latest iteration that has it, or ITERATION.TASK."
)


def complete(action: argparse.Action, completer: Callable[..., list[str]]) -> None:
    """Have a shell complete what is typed for an argument."""
    action.completer = completer  # type: ignore[attr-defined]  # where argcomplete looks for it


def add_run(parser: argparse.ArgumentParser) -> None:
    """Let a command take a run."""
    action = parser.add_argument("run", metavar="RUN", help="its directory, or WORKSPACE/RUN_ID")
    complete(action, _names_of_runs)
    add_base_path(parser)


def add_workspace(parser: argparse.ArgumentParser, *, several: bool = False, optional: bool = False) -> None:
    """Let a command take a workspace, or several, or none for all."""
    nargs = "+" if several else "?" if optional else None
    said = "its directory, or its name" + (" (default: all)" if optional else "")
    action = parser.add_argument("workspace", metavar="WORKSPACE", nargs=nargs, help=said)
    complete(action, _names_of_workspaces)
    add_base_path(parser)


def add_place(
    parser: argparse.ArgumentParser, said: str = "a run, or a workspace for all of its runs", *, optional: bool = False
) -> None:
    """Let a command take a run or a workspace."""
    nargs = "?" if optional else None
    action = parser.add_argument("place", metavar="PLACE", nargs=nargs, help=said)
    complete(action, _names_of_runs)
    add_base_path(parser)


def add_base_path(parser: argparse.ArgumentParser) -> None:
    """Let a command take where names are looked for."""
    parser.add_argument("--base-path", metavar="DIRECTORY", default=".", help="where workspaces/ is (default: here)")


def add_task(parser: argparse.ArgumentParser, *, iteration: bool = True) -> None:
    """Let a command take a task of the run, and which iteration and attempt of it."""
    action = parser.add_argument("task", metavar="TASK", help="its id, or ITERATION.TASK")
    complete(action, complete_task)
    if iteration:
        parser.add_argument("--iteration", type=int, metavar="N", help="which iteration it is of")
    parser.add_argument("--attempt", type=int, metavar="N", help="which attempt of it")


def run_path(given: argparse.Namespace) -> Path:
    """Return the directory of the run that was given.

    Raises
    ------
    RunNotFoundError
        There is none.
    """
    return run_at(given.run, given.base_path)


def run_at(name: str, base_path: str) -> Path:
    """Return the directory of a run by its path or name; see `RULE`.

    Raises
    ------
    RunNotFoundError
        There is none.
    """
    from matterstack.storage.run_directory import RunDirectory, runs_root

    path = Path(name).absolute()
    if RunDirectory(path).can_be_asked:
        return path
    workspace, _, run_id = name.partition("/")
    hint = "RUN is the directory of a run, or WORKSPACE/RUN_ID"
    with contextlib.suppress(InvalidIdentifierError):
        runs = runs_root(base_path, workspace)
        if run_id and "/" not in run_id and RunDirectory(runs / run_id).can_be_asked:
            return runs / run_id
        if os.path.isdir(runs):  # False where nobody can tell
            hint += f", and matterstack runs {workspace} lists those of {workspace}"
    if os.path.isfile(path):
        hint = "that is a file; where it is an export, unzip it first, and name the folder that comes out of it"
    where = os.path.join(os.path.abspath(base_path), "workspaces")
    raise RunNotFoundError(f"there is no run at {path}, and none called {name!r} in {where}: {hint}", path=path)


def workspace_place(name: str, base_path: str) -> tuple[Path, str]:
    """Return base path and name of a workspace by its path or name; see `RULE`.

    Raises
    ------
    RunNotFoundError
        There is none; saying which there are.
    """
    from matterstack.storage.run_directory import list_runs

    path = Path(name).absolute()
    if path.parent.name == "workspaces" and os.path.isdir(path):
        base, name = path.parent.parent, path.name
    elif os.sep in name:
        raise RunNotFoundError(f"{path} is no workspace: those are at <base_path>/workspaces/<name>", path=path)
    else:
        base = Path(base_path).absolute()
    list_runs(base, name)  # which says what there is instead
    return base, name


def workspaces_below(base_path: str) -> list[tuple[Path, str]]:
    """Return base path and name of each workspace, also of one that cannot be looked into."""
    base = Path(base_path).absolute()
    there = base / "workspaces"
    names = sorted(os.listdir(there)) if os.path.isdir(there) else []
    return [(base, name) for name in names if _may_have_runs(there / name)]


def _may_have_runs(workspace: Path) -> bool:
    try:
        os.lstat(workspace / "runs")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # nobody can tell
        pass
    return True


def place_of(given: argparse.Namespace) -> Path | tuple[Path, str]:
    """Return the directory of the run that was given, or base path and name of the workspace.

    Raises
    ------
    RunNotFoundError
        There is neither.
    """
    return place_at(given.place, given.base_path)


def place_at(name: str, base_path: str) -> Path | tuple[Path, str]:
    """Return the directory of a run, or base path and name of a workspace, by path or name; see `RULE`.

    Raises
    ------
    RunNotFoundError
        There is neither.
    """
    try:
        return run_at(name, base_path)
    except RunNotFoundError as error:
        try:
            return workspace_place(name, base_path)
        except MatterstackError as other:
            raise (error if os.sep in name or not isinstance(other, RunNotFoundError) else other) from None


# -- what a shell completes: nothing where anything is wrong, since it has no place to say so -----------


def _names_of_workspaces(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    with contextlib.suppress(OSError):
        return [name for _, name in workspaces_below(parsed_args.base_path)]
    return []


def _names_of_runs(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    from argcomplete.completers import FilesCompleter

    workspaces = _names_of_workspaces(parsed_args)
    place = Path(parsed_args.base_path) / "workspaces"
    runs = [f"{name}/{run.parent.name}" for name in workspaces for run in place.glob(f"{name}/runs/*/state.sqlite")]
    return [*sorted(runs), *FilesCompleter()(prefix)]


def complete_task(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the tasks of the current iteration of the run that was typed."""
    from matterstack.storage.reader import StoreReader
    from matterstack.storage.run_directory import RunDirectory

    try:
        store = StoreReader(RunDirectory(run_path(parsed_args)).state)
        return list(store.task_ids(store.run().iteration))
    except MatterstackError:
        return []
