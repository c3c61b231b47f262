"""Jobs: scripts that claim the directory of an attempt, run its command, and leave how it ended there.

Whoever starts a job, and however often, its command runs once: the first act is to make a directory, the claim.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matterstack.core.attempt_files import MACHINERY, Family, check_names
from matterstack.core.attempts import Attempt, Observation, Seen
from matterstack.core.calls import VALUE
from matterstack.core.made import MOST_HASHED_BYTES, Made
from matterstack.core.states import AttemptStatus
from matterstack.core.task import RESULT, Task
from matterstack.errors import InvalidConfigError, InvalidTaskError, UnsafeFileError
from matterstack.operators.base import Operator, RunsIn
from matterstack.operators.handlers import Handler, mend
from matterstack.operators.jobs.claim import End, began_at, silent_s
from matterstack.operators.jobs.faults import cannot_tell
from matterstack.operators.made import of_job
from matterstack.operators.results import collect, exception_of, last_line, last_words

#: The shells stay, and tell how the command took the signal.
_ASKED_TO_END = "trap : TERM\n"
_WATCH = f"""\
# A sign of life for as long as this shell lives, whoever started it; and an end, when that is asked for.
{_ASKED_TO_END}( trap '' TERM
  asked=0
  while kill -0 $$ 2>/dev/null; do
    : >.matterstack/claim/alive
    if [ -e .matterstack/cancel ]; then
      asked=$((asked + 1))
      if [ "$asked" -gt 5 ]; then kill -KILL -$$; else kill -TERM -$$; fi
    fi
    sleep 1
  done ) </dev/null >/dev/null 2>&1 &
"""


class JobOperator(Operator):
    """What operators have in common that run commands as jobs.

    Attributes
    ----------
    preamble : str
        Lines of shell before each command.
    grace_s : float
        How long a job is waited for that is gone and left no exit code.
    watched : bool
        Whether nobody else watches a job: it then gives signs of life, and ends itself when asked to.
    script_output : str
        Where in an attempt's directory its script prints.
    python : str or None
        What runs calls of functions; None for the interpreter that planned them.
    environment : str or None
        What the user calls what runs calls of functions, for cached results.
    sees_this_machine : bool
        Whether jobs run what lies here, by the same path.
    handlers : sequence of (Handler or str)
        Asked about every earlier attempt, in order, when another one is prepared.
    """

    handlers: Sequence[Handler | str] = ()
    python: str | None = None
    environment: str | None = None
    sees_this_machine: bool = False
    preamble: str = ""
    grace_s: float = 60.0
    watched: bool = False
    script_output: str = "slurm.out"

    @property
    def path(self) -> str | None:
        """What comes first in the ``PATH`` of commands: the place of this Python, where jobs see it too."""
        return str(Path(sys.executable).parent)

    def check_task(self, task: Task) -> None:
        """Refuse a task without a command, names of ours, and variables a shell cannot set."""
        check_names(task.task_id, task.files, Family.JOB)
        if task.command is None:
            raise InvalidTaskError(
                f"task {task.task_id!r} has no command, and a job is made to run one", task_id=task.task_id
            )
        for output in task.outputs:
            if output.split("/")[0].casefold() == MACHINERY:
                raise InvalidTaskError(
                    f"task {task.task_id!r}: an output must not be {output!r}, a name of the run's own",
                    task_id=task.task_id,
                )
        for name, value in task.env.items():
            if not name.isidentifier() or not name.isascii():
                raise InvalidTaskError(
                    f"task {task.task_id!r}: a shell cannot set the variable {name!r}", task_id=task.task_id
                )
            reference = value.removeprefix("env:")
            if value.startswith("env:") and not (reference.isidentifier() and reference.isascii()):
                raise InvalidTaskError(
                    f"task {task.task_id!r}: {value!r} names no variable a shell can have", task_id=task.task_id
                )

    def prepare(self, attempt: Attempt) -> None:
        """Write the job's script, and have handlers mend the inputs after failed attempts."""
        with cannot_tell(f"the directory of {attempt.task_id}"):
            mend(self.handlers, attempt)
            script = job_script(attempt, self.preamble, self.path, self.python, watched=self.watched)
            machinery = attempt.directory / MACHINERY
            machinery.mkdir(exist_ok=True)
            (machinery / "job.sh").write_text(script, encoding="utf-8")

    def monitors(self) -> Sequence[Handler | str]:
        """Return the handlers: jobs run in their directory."""
        return self.handlers

    def missing(self, attempt: Attempt, said: str, began: float | None, at: float) -> Observation:
        """Judge an attempt whose job is over or gone, and which left no exit code."""
        if not attempt.directory.is_dir():
            return Observation(Seen.VANISHED, reason=f"{said}, and its directory is gone")
        waited_s = silent_s(attempt, at)
        if waited_s < self.grace_s:
            return still(attempt, f"{said}, and it left no exit code yet: waited for {self.grace_s:g} s")
        if began is None and self.take_claim(attempt):
            return Observation(Seen.VANISHED, reason=f"{said}; it never began, and cannot any more")
        words = self.last_words(attempt)
        return Observation(Seen.VANISHED, reason=f"{said}; it began, and left no exit code{words}")

    def take_claim(self, attempt: Attempt) -> bool:
        """Claim an attempt in its job's place; return whether it was free."""
        try:
            (attempt.directory / MACHINERY / "claim").mkdir()
        except FileExistsError:
            return False
        except FileNotFoundError:
            pass  # without its directory it cannot begin
        return True

    def last_words(self, attempt: Attempt) -> str:
        """Return the last line of standard error, or else of what the script printed, as the end of a sentence."""
        return last_words(attempt.directory) or words_of(attempt.directory, self.script_output)

    def collect_results(self, attempt: Attempt) -> Any:
        """Check the outputs, and return the content of result.json."""
        return collect(str(attempt.directory), attempt.task.outputs)

    def environment_of(self, task: Task) -> RunsIn:
        """Return the name of the environment; without one nobody knows, unless jobs see what is here."""
        if self.environment is not None or not self.sees_this_machine or task.call is None:
            return super().environment_of(task)._replace(name=self.environment)
        python = [*shlex.split(self.python)] if self.python else [task.call.python]
        if not python[0].startswith("/"):
            return super().environment_of(task)
        return RunsIn(python=python, elsewhere=True)

    def made(self, attempt: Attempt) -> Made:
        """Return what the job's script, or the call in it, has told."""
        return of_job(str(attempt.directory), attempt.task.outputs)


def check_preamble(preamble: object) -> None:
    """Raise `InvalidConfigError` unless this is text that a script can hold."""
    if not isinstance(preamble, str) or "\0" in preamble:
        raise InvalidConfigError(f"preamble must be lines of shell, not {preamble!r}")


def good_end(attempt: Attempt, ended: End) -> Observation:
    """Return what is seen of an attempt whose command ended well."""
    return Observation(Seen.ENDED, exit_code=0, started_at=began_at(attempt) or None, ended_at=ended.ended_at)


def bad_end(reason: str, kind: str, at: float, exit_code: int | None = None, began: float | None = None) -> Observation:
    """Return what is seen of an attempt that ended badly; `kind` is a word for how."""
    return Observation(
        Seen.ENDED, ok=False, reason=reason, kind=kind, exit_code=exit_code, started_at=began or None, ended_at=at
    )


def ended_badly(attempt: Attempt, ended: End, words: str) -> Observation:
    """Return what is seen of an attempt whose command, or script, told that it ended badly; `words` were its last."""
    code = ended.exit_code if ended.of_command else None
    raised = exception_of(attempt.directory) if attempt.task.call and ended.of_command else None
    return bad_end(raised or f"{ended}{words}", ended.state or "FAILED", ended.ended_at, code, began_at(attempt))


def words_of(directory: Path, output: str) -> str:
    """Return the last line that a job's script printed, as the end of a sentence."""
    line = last_line(directory, output)
    return f"; {output.rpartition('/')[2]} ends with: {line}" if line else ""


def still(attempt: Attempt, reason: str) -> Observation:
    """Return what is seen of an attempt that stays as it was, and why."""
    return Observation(Seen.RUNNING if attempt.status is AttemptStatus.RUNNING else Seen.QUEUED, reason=reason)


def judge_alone(attempt: Attempt, judge: Callable[..., Observation], *facts: Any) -> Observation:
    """Judge one attempt; whatever it did to its own directory, the others are judged too."""
    try:
        return judge(attempt, *facts)
    except (OSError, UnsafeFileError) as error:
        return still(attempt, f"its directory cannot be looked at: {error}")


def job_script(attempt: Attempt, preamble: str, path: str | None, python: str | None, *, watched: bool) -> str:
    """Return the script of an attempt's job.

    Whatever the preamble does to its shell (``exit``, ``set -e``, ``cd``, a syntax error), it does to a shell of its
    own; the one around it tells how that ended. The command's exit code is the one that was written down behind it.

    Parameters
    ----------
    attempt : Attempt
    preamble : str
        Lines of shell before the command.
    path : str or None
        What comes first in ``PATH``.
    python : str or None
        What runs calls of functions.
    watched : bool
        Whether it gives signs of life, and ends itself when a file ``cancel`` appears.
    """
    task = attempt.task
    said = task.command_with(python)
    command = said if isinstance(said, str) else shlex.join(said)
    return f"""#!/bin/sh
# One attempt of task {attempt.task_id}; whoever claims the directory runs it, and nobody else.
if ! mkdir .matterstack/claim 2>/dev/null; then
  if [ -d .matterstack/claim ]; then
    echo "this attempt was claimed by another job: nothing is done" >&2
    exit 0
  fi
  mkdir .matterstack/claim || exit
fi
matterstack_home=$PWD
printf '{{"started_at": %s, "job": "%s", "host": "%s"}}\\n' \\
  "$(date +%s)" "$SLURM_JOB_ID" "${{SLURMD_NODENAME:-$(hostname)}}" >.matterstack/claim/started.json
{_WATCH if watched else ""}(
{_ASKED_TO_END if watched else ""}{chr(10).join(_variables(attempt, path))}
eval {shlex.quote(preamble)}
command cd "$matterstack_home" || exit
printf '%s\\n%s\\n%s\\n' "${{SLURMD_NODENAME-$(hostname)}}" "${{APPTAINER_NAME-${{SINGULARITY_NAME-}}}}" \\
  "${{LOADEDMODULES-}}" 2>/dev/null >.matterstack/surroundings || :
matterstack_code=0
/bin/sh -c {shlex.quote(command)} </dev/null >stdout.txt 2>stderr.txt || matterstack_code=$?
echo "$matterstack_code" >.matterstack/claim/code
exit "$matterstack_code"
)
code=$?
ended=false
[ -s .matterstack/claim/code ] && read -r code <.matterstack/claim/code && ended=true
{_sums(task)}[ "$code" -le 128 ] && said=$code || said=$((128 - code))
tries=60
until {{ printf '{{"exit_code": %d, "ended_at": %s, "command": %s}}\\n' "$said" "$(date +%s)" "$ended" \\
  >.matterstack/exit.json.new && mv .matterstack/exit.json.new .matterstack/exit.json; }} 2>/dev/null; do
  tries=$((tries - 1))
  [ "$tries" -gt 0 ] && [ -d .matterstack ] || break
  sleep 1  # a disk that is full may not stay so
done
exit "$code"
"""


def _sums(task: Task) -> str:
    """Return lines of shell that hash what a command which ended well has left, but for what a call hashes itself."""
    by_call = (VALUE, RESULT) if task.call else ()
    lines = [
        f"  sum {number} {shlex.quote(name)}"
        for number, name in enumerate((*task.outputs, RESULT))
        if name not in by_call
    ]
    if not lines:
        return ""
    return f"""\
sum() {{
  [ -f "$2" ] && [ ! -L "$2" ] && size=$(wc -c <"$2") && [ "$size" -le {MOST_HASHED_BYTES} ] || return 0
  hash=$(sha256sum <"$2") && printf '%s %d %d\\n' "${{hash%% *}}" "$size" "$1"
}}
[ "$code" -ne 0 ] || {{
{chr(10).join(lines)}
}} 2>/dev/null >.matterstack/sums
"""


def _variables(attempt: Attempt, path: str | None) -> list[str]:
    """Return lines of shell that set the variables of a command: what they refer to is taken before any is set."""
    taken, exported = [], [f"export {name}={shlex.quote(value)}" for name, value in attempt.variables.items()]
    if path is not None:
        exported.append(f'export PATH={shlex.quote(path)}:"$PATH"')
    for number, (name, value) in enumerate(attempt.task.env.items()):
        if value.startswith("env:"):
            there = value.removeprefix("env:")
            taken.append(f"matterstack_{number}=${{{there}?has to be set: the task needs it}}")
            exported.append(f'export {name}="$matterstack_{number}"')
        else:
            exported.append(f"export {name}={shlex.quote(value)}")
    return taken + exported
