"""Acts on a run: pausing, cancelling, trying again, keeping back, tags, settings."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from matterstack.commands.command import DONE, Commands
from matterstack.commands.output import show
from matterstack.commands.pairs import key_and_json, key_and_path, key_and_text
from matterstack.commands.places import add_run, complete, complete_task, run_path
from matterstack.commands.runs import status_document

if TYPE_CHECKING:
    from matterstack.run import Run

#: Resources that an option of `retry` changes, what each is read as, and what it is.
_RESOURCES: dict[str, tuple[Callable[[str], Any], str]] = {
    "nodes": (int, "how many nodes"),
    "tasks": (int, "MPI ranks"),
    "cpus_per_task": (int, "cores a rank"),
    "gpus": (int, "of the whole job"),
    "memory_gib": (float, "of the whole job, in GiB"),
    "walltime_s": (float, "the longest that an attempt may run, in seconds"),
    "partition": (str, "of a batch scheduler"),
    "account": (str, "of a batch scheduler"),
    "qos": (str, "of a batch scheduler"),
    "constraint": (str, "of a batch scheduler"),
}


def add(commands: Commands) -> None:
    """Add what acts on a run."""
    commands.heading("Act on a run")
    pause = _add(commands, "pause", _pause, "Submit nothing more; what is under way goes on.", "--reason 'disk full'")
    pause.add_argument("--reason", metavar="TEXT", default="paused by a person", help="kept with the run")
    _add(commands, "resume", _resume, "Submit again, also to operators that were suspended.")
    cancel = _add(commands, "cancel", _cancel, "End a run: what is under way is stopped.", "--reason 'wrong cell'")
    cancel.add_argument("--reason", metavar="TEXT", default="cancelled by a person", help="kept with the run")
    cancel.add_argument("--timeout-s", metavar="S", type=float, default=10.0, help="how long to wait until it stopped")
    _add(commands, "reopen", _reopen, "Ask the campaign of a run that is COMPLETED for its next plan.")
    _add_retry(commands)
    said = "Cancel tasks of the current iteration; what waits for them is skipped, and the run goes on."
    _add_tasks(_add(commands, "cancel-task", _cancel_task, said, "relax_3 relax_4"), "cancelled by a person")
    said = "Keep tasks back: they are not submitted until they are released."
    _add_tasks(_add(commands, "hold", _hold, said, "--group relax"), "held by a person")
    _add_tasks(_add(commands, "release", _release, "Release tasks that were kept back; all of them if none is named."))
    said = "Declare, on your word, that a task's attempt is dead, when there is nobody left to ask."
    lost = _add(commands, "declare-lost", _declare_lost, said, "relax_3")
    complete(lost.add_argument("task", metavar="TASK", help="its id, of the current iteration"), complete_task)
    said = "Add words by which a run, or tasks of it, can be found."
    _add_tags(commands, "tag", _tag, said, "'for the paper' --task relax_3")
    _add_tags(commands, "untag", _untag, "Take away words by which a run, or tasks of it, can be found.", "cathode")
    configure = _add(
        commands,
        "configure",
        _configure,
        "Change an operator's settings, the budget, or whom the run tells, while the run goes on.",
        "--operator local max_active=8",
        "They are kept with the run, and every process takes them up at its next tick. The same goes for the budget: "
        "matterstack configure oxides/r1 --budget tasks=500 wall_h=null; and for whom the run tells: "
        """matterstack configure oxides/r1 'notify="env:MY_ADDRESS"'""",
    )
    of = configure.add_mutually_exclusive_group()
    of.add_argument("--operator", metavar="NAME", help="whose settings they are")
    of.add_argument("--budget", action="store_true", help="they are limits on what the run may spend")
    configure.add_argument("settings", metavar="KEY=JSON", nargs="+", type=key_and_json, help="null is no limit")
    tell = _add(
        commands,
        "tell",
        _tell,
        "Send a notice of your own to everybody whom a run tells, and wait until it has arrived.",
        "'the furnace is down until Monday'",
        "As a trial, or in earnest. Exit status 1 if it did not reach everybody; the message says whom it missed.",
    )
    tell.add_argument("text", metavar="TEXT", nargs="?", default="a trial", help="what it says (default: %(default)s)")


def _add(
    commands: Commands,
    name: str,
    act: Callable[[Run, argparse.Namespace], Any],
    said: str,
    example: str = "",
    more: str = "",
) -> argparse.ArgumentParser:
    """Add a command that acts on a run and then says where that stands."""

    def do(given: argparse.Namespace) -> int:
        from matterstack.run_lifecycle import open_run

        run = open_run(run_path(given))
        act(run, given)
        show(given, status_document(run.overview), str(run))
        return DONE

    parser = commands.add(name, do, said, f"matterstack {name} oxides/r1 {example}".strip(), more=more, schema="status")
    add_run(parser)
    return parser


def _add_names(parser: argparse.ArgumentParser) -> None:
    action = parser.add_argument("tasks", metavar="TASK", nargs="*", default=[], help="ids, or ITERATION.TASK")
    complete(action, complete_task)


def _add_tasks(parser: argparse.ArgumentParser, reason: str | None = None) -> None:
    _add_names(parser)
    parser.add_argument("--group", metavar="NAME", help="all of a group that are not over")
    if reason is not None:
        parser.add_argument("--reason", metavar="TEXT", default=reason, help="kept with them")


def _add_tags(
    commands: Commands, name: str, act: Callable[[Run, argparse.Namespace], Any], said: str, example: str
) -> None:
    parser = _add(commands, name, act, said, example, "Possible also when the run or the tasks are over.")
    parser.add_argument("tags", metavar="TAG", nargs="+", help="of 64 characters at most, without a comma")
    said = "tag this task, not the run; may be given several times"
    task = parser.add_argument("--task", dest="tasks", metavar="TASK", action="append", help=said)
    complete(task, complete_task)


def _add_retry(commands: Commands) -> None:
    retry = _add(
        commands,
        "retry",
        _retry,
        "Give tasks that are over another chance, as they are or mended; every failed one if none is named.",
        "relax_3 --memory-gib 64 --file INCAR=INCAR.fine",
        "What is changed holds for all further attempts of the named tasks. All that waits for them is tried again "
        "with them.",
    )
    _add_names(retry)
    retry.add_argument("--iteration", metavar="N", type=int, help="only if this is the current iteration")
    retry.add_argument("--as-planned", action="store_true", help="drop the changes of earlier retries")
    retry.add_argument("--command", metavar="TEXT", help="another command")
    for option, metavar, pair, said in (
        ("--file", "NAME=PATH", key_and_path, "another file, or one more"),
        ("--argument", "NAME=JSON", key_and_json, "of the call of a function"),
        ("--env", "NAME=VALUE", key_and_text, "an environment variable"),
    ):
        retry.add_argument(option, metavar=metavar, type=pair, action="append", default=[], help=said)
    resources = retry.add_argument_group("resources of the next attempts")
    for name, (kind, said) in _RESOURCES.items():
        metavar = "WORD" if kind is str else "N"
        option = f"--{name.replace('_', '-')}"
        resources.add_argument(option, dest=f"resource_{name}", metavar=metavar, type=kind, help=said)


# -- what they do ------------------------------------------------------------------------------------


def _names(given: argparse.Namespace) -> Sequence[str] | None:
    return given.tasks or None


def _pause(run: Run, given: argparse.Namespace) -> None:
    run.pause(given.reason)


def _resume(run: Run, _: argparse.Namespace) -> None:
    run.resume()


def _cancel(run: Run, given: argparse.Namespace) -> None:
    run.cancel(given.reason, timeout_s=given.timeout_s)


def _reopen(run: Run, _: argparse.Namespace) -> None:
    run.reopen()


def _cancel_task(run: Run, given: argparse.Namespace) -> None:
    run.cancel_task(_names(given), group=given.group, reason=given.reason)


def _hold(run: Run, given: argparse.Namespace) -> None:
    run.hold(_names(given), group=given.group, reason=given.reason)


def _release(run: Run, given: argparse.Namespace) -> None:
    run.release(_names(given), group=given.group)


def _declare_lost(run: Run, given: argparse.Namespace) -> None:
    run.declare_lost(given.task)


def _tag(run: Run, given: argparse.Namespace) -> None:
    run.tag(*given.tags, task_id=given.tasks)


def _untag(run: Run, given: argparse.Namespace) -> None:
    run.untag(*given.tags, task_id=given.tasks)


def _tell(run: Run, given: argparse.Namespace) -> None:
    run.tell(given.text)


def _retry(run: Run, given: argparse.Namespace) -> None:
    resources = {name: value for name in _RESOURCES if (value := getattr(given, f"resource_{name}")) is not None}
    run.retry(
        _names(given),
        iteration=given.iteration,
        files=dict(given.file) or None,
        arguments=dict(given.argument) or None,
        resources=resources or None,
        command=given.command,
        env=dict(given.env) or None,
        as_planned=given.as_planned,
    )


def _configure(run: Run, given: argparse.Namespace) -> None:
    settings = dict(given.settings)
    if given.budget:
        run.configure(budget=settings)
    else:
        run.configure(given.operator, **settings)
