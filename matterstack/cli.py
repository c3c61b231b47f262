"""``matterstack step|wait|status|explain|check|doctor|trust|take-late PATH``, and ``daemon``: runs from a shell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from matterstack.core.states import TERMINAL_RUN, RunStatus
from matterstack.core.text import neutral
from matterstack.errors import MatterstackError, RunLockedError

#: Exit codes: sysexits.h calls 75 a temporary failure; try again.
EXIT_ERROR, EXIT_LOCKED = 1, 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0, or 75 when another process steps the run, or 1 for any other error, and where the run has failed.
    """
    parser = argparse.ArgumentParser(
        prog="matterstack",
        description="Step, wait for, look at, or check a run. Stepping needs a campaign that can be imported. Checking "
        "compares the database with itself: counters with rows, statuses with each other. Trusting says that you may "
        "step a run that was made elsewhere, or every run below a folder. doctor WORKSPACE lists the limits of a "
        "workspace, who holds what of them, and what somebody has to see to. take-late RUN_DIRECTORY TASK [ARCHIVE] "
        "takes in, on your word, results of a kit that came after its attempt had failed. daemon WORKSPACE... steps "
        "all runs of workspaces (matterstack daemon --help).",
        epilog="exit status: 0 done, 75 another process is running (try again), 1 a run that is FAILED after step or "
        "wait, a check or doctor that found something, or any other error, 2 wrong usage",
    )
    parser.add_argument(
        "command", choices=["step", "wait", "status", "explain", "check", "doctor", "trust", "take-late"]
    )
    parser.add_argument(
        "run_directory", help="<base_path>/workspaces/<workspace>/runs/<run_id>; of doctor, a workspace or its path"
    )
    parser.add_argument("task", nargs="?", help="of take-late: the task whose results they are")
    parser.add_argument("archive", nargs="?", help="of take-late: where they are, if not in the attempt's directory")
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["daemon"]:
        return _reporting(lambda: _daemon(words[1:]))
    given = parser.parse_args(words)
    if (given.command == "take-late") != (given.task is not None):
        parser.error("take-late needs a task, and no other command takes one")
    return _reporting(lambda: _do(given))


def _reporting(act: Callable[[], int]) -> int:
    """Act, and say on stderr what was raised; return the exit code."""
    try:
        return act()
    except RunLockedError as error:
        print(neutral(f"matterstack: {error}"), file=sys.stderr)
        return EXIT_LOCKED
    except MatterstackError as error:
        print(neutral(f"matterstack: {type(error).__name__}: {error}"), file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("matterstack: stopped waiting; the run's tasks go on", file=sys.stderr)
        return 130


def _do(given: argparse.Namespace) -> int:
    """Do what looks at a run or a workspace, and needs no operator; else what a run does."""
    if given.command == "status":
        # Quick, for scripts and prompts: it needs neither operators nor pandas.
        from matterstack.notebook.summary import summary_text
        from matterstack.orchestration.overview import overview

        print(summary_text(overview(given.run_directory)))
        return 0
    if given.command == "trust":
        from matterstack.run_lifecycle import trust

        trust(given.run_directory)
        print("Trusted: you may step it.")
        return 0
    if given.command == "check":
        from matterstack.orchestration.overview import check

        found = check(given.run_directory)
        print(neutral("\n".join(found)) or "The database agrees with itself.")
        return EXIT_ERROR if found else 0
    if given.command == "doctor":
        from matterstack.workspace import doctor

        table, found = doctor(given.run_directory)
        print(neutral("\n".join([table, *(f"- {one}" for one in found)])))
        return EXIT_ERROR if found else 0
    return _with_run(given)


def _with_run(given: argparse.Namespace) -> int:
    from matterstack.run_lifecycle import open_run

    run = open_run(given.run_directory)
    match given.command:
        case "step":
            report = run.step()
            print(report)
            if report.reason:
                print(neutral(report.reason))
            return _exit_code(report.status)
        case "wait":
            run.wait()
            print(run)
            if run.status not in TERMINAL_RUN:
                print(run.explain())
            return _exit_code(run.status)
        case "explain":
            print(run.explain())
        case "take-late":
            run.take_late(given.task, given.archive)
            print("Taken: the next step goes on with them.")
    return 0


def _daemon(words: Sequence[str]) -> int:
    from matterstack.daemon import supervisor

    return supervisor.main(words)


def _exit_code(status: RunStatus) -> int:
    return EXIT_ERROR if status is RunStatus.FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
