"""Steps: one, until there is nothing to do, or of all runs of workspaces; and the trust that they need."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from matterstack.commands.command import DONE, FAILED, Commands
from matterstack.commands.output import show
from matterstack.commands.places import add_base_path, add_run, add_workspace, run_at, run_path, workspace_place
from matterstack.commands.runs import status_document

_OF_A_STEP = ("ready", "submitted", "completed", "failed", "skipped", "live", "iteration", "reason", "look_again_s")
_MOST_WORKERS, _MORE_THAN_ANYBODY_WANTS = 16, 1000


def add(commands: Commands) -> None:
    """Add what makes runs go on."""
    commands.heading("Go on")
    add_run(
        commands.add(
            "step",
            _step,
            "Make one tick of a run: poll, plan, execute, analyze.",
            "matterstack step oxides/r1",
            more="Exit status 1 where the run is FAILED.",
        )
    )
    wait = commands.add(
        "wait",
        _wait,
        "Step a run until it ends or needs a person; Ctrl-C stops the waiting, not the run.",
        "matterstack wait oxides/r1 --timeout-s 3600",
        more="Exit status 1 where the run is FAILED.",
        schema="status",
        when_stopped="stopped waiting; the run's tasks go on",
    )
    add_run(wait)
    wait.add_argument("--timeout-s", type=float, metavar="S", help="give up waiting after so many seconds")
    _add_daemon(commands)
    trust = commands.add(
        "trust",
        _trust,
        "Say that you may step a run that was made elsewhere, or every run below a folder.",
        "matterstack trust from_ada/r1",
        more="Stepping a run runs its commands, its campaign and what its operators name, as you. See docs/trust.md.",
    )
    trust.add_argument("run", metavar="RUN", help="its directory, or WORKSPACE/RUN_ID; or a folder")
    add_base_path(trust)
    add_run(
        commands.add(
            "take-environment",
            _take_environment,
            "Say that a run goes on in what this shell has: its Python, packages, variables and directory.",
            "matterstack take-environment oxides/r1",
            more="For a daemon that steps it. Call it in the directory whose modules the run shall go on with. See "
            "docs/daemon.md.",
            schema="status",
        )
    )


def _add_daemon(commands: Commands) -> None:
    daemon = commands.add(
        "daemon",
        _daemon,
        "Step every run of workspaces that is active and trusted, each as soon as it can go on.",
        "matterstack daemon oxides sulfides --log daemon.log",
        more="It goes on until SIGTERM or SIGINT, and logs to the standard error. Runs go on in the environment that "
        "they were made in. See docs/daemon.md.",
    )
    add_workspace(daemon, several=True)
    default = min(_MOST_WORKERS, 2 * (os.cpu_count() or 1))
    said = f"how many runs are stepped at once (default: two a core, {_MOST_WORKERS} at most)"
    daemon.add_argument("--workers", type=_workers, metavar="N", default=default, help=said)
    daemon.add_argument("--once", action="store_true", help="step each run until nothing moves, and end: for cron")
    daemon.add_argument("--log", type=Path, metavar="FILE", help="where the log goes besides the standard error")


def _workers(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= _MORE_THAN_ANYBODY_WANTS):
        raise argparse.ArgumentTypeError(f"must be a positive number, {_MORE_THAN_ANYBODY_WANTS} at most")
    return int(text)


def _step(given: argparse.Namespace) -> int:
    from matterstack.core.states import RunStatus
    from matterstack.run_lifecycle import open_run

    report = open_run(run_path(given)).step()
    document = {name: getattr(report, name) for name in _OF_A_STEP}
    document |= {"status": str(report.status), "waits_for": str(report.waits_for)}
    show(given, document, str(report), *([report.reason] if report.reason else []))
    return FAILED if report.status is RunStatus.FAILED else DONE


def _wait(given: argparse.Namespace) -> int:
    from matterstack.core.states import TERMINAL_RUN, RunStatus
    from matterstack.run_lifecycle import open_run

    run = open_run(run_path(given))
    run.wait(given.timeout_s)
    seen = run.overview
    status = seen.record.status
    show(given, status_document(seen), str(run), *([] if status in TERMINAL_RUN else [str(run.explain())]))
    return FAILED if status is RunStatus.FAILED else DONE


def _daemon(given: argparse.Namespace) -> int:
    from matterstack.daemon.supervisor import serve

    places = list(dict.fromkeys(workspace_place(name, given.base_path) for name in given.workspace))
    ended = serve(places, given.workers, once=given.once, log_file=given.log)
    show(given, {"ended_by": None if ended.by is None else ended.by.name})
    return FAILED if ended.failed else DONE


def _trust(given: argparse.Namespace) -> int:
    from matterstack.run_lifecycle import trust

    if not given.run:  # a variable of a shell that is not set: not the present directory
        given.parser.error("RUN is empty: name a run, or a folder; . is the present one")
    path = Path(given.run).absolute()
    path = path if path.is_dir() else run_at(given.run, given.base_path)
    trust(path)
    show(given, {"trusted": path}, "Trusted: you may step it.")
    return DONE


def _take_environment(given: argparse.Namespace) -> int:
    from matterstack.run_lifecycle import open_run

    run = open_run(run_path(given)).take_environment()
    show(given, status_document(run.overview), "Taken: a daemon steps the run in what is here.")
    return DONE
