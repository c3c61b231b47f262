"""Kits for a cluster that nothing can reach: a person carries them there, and the results home.

The directory of an attempt is a kit::

    HOWTO.txt        how to run it anywhere, and how to bring it home
    submit.sh        for sbatch or sh; needs nothing but a POSIX shell
    MANIFEST.json    whose kit it is, and the SHA-256 of every file in it
    inputs/          the task's files
    output/          what comes home: the command runs in here
    output.sha256    sums of what the command left, where the cluster has sha256sum
    status.json      how the command ended

Results may arrive slowly, in any order and twice. What may still be a transfer under way
waits, visibly; what cannot become whole fails the attempt.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matterstack.core.attempt_files import MACHINERY
from matterstack.core.attempts import Attempt, Observation, Seen
from matterstack.core.states import AttemptStatus
from matterstack.core.strict_json import MAX_BYTES, parse_json
from matterstack.core.task import Task
from matterstack.errors import (
    AttemptFailedError,
    InvalidConfigError,
    InvalidJsonError,
    InvalidTaskError,
    UnsafeFileError,
)
from matterstack.files import open_inside, read_inside, write_inside
from matterstack.operators.base import Traits
from matterstack.operators.requests.base import RequestOperator
from matterstack.operators.requests.notices import Notify, check_notify
from matterstack.operators.requests.request_directory import waits_for
from matterstack.operators.results import last_words, read_result
from matterstack.operators.sbatch import check_options, sbatch_options
from matterstack.operators.unchanged import note_unchanged

#: Names that file transfer programs give a file they are still writing: rsync's ``.NAME.XXXXXX``
#: (rsync(1), --inplace), WinSCP's ``.filepart``, browsers' ``.part`` and ``.crdownload``.
_PARTIAL = re.compile(
    r"\..+\.[A-Za-z0-9]{4,8}\Z|.+\.(part|filepart|partial|crdownload|tmp)\Z|\.~tmp~\Z|\.rsync-partial\Z"
)
_SETTLE_S = 2.0
_MOST_FILES = 100_000
_OUTPUT = "output"
_SECRET = "env:"

_HOWTO = """\
How to run this kit, and bring it home.

1. Copy this whole directory to where it shall run.
2. There, either
       sbatch submit.sh          (Slurm; check the #SBATCH lines first)
   or
       sh submit.sh              (any machine with a POSIX shell)
   It runs the command in output/, with what is in inputs/.{secrets}
3. When it has ended, bring output/, output.sha256 and status.json back into this
   directory. Or bring the whole directory home in a zip archive, and have it taken
   in with run.import_kits("back.zip").

If you run the command in another way: put its results into output/, and then
make an empty file "done" beside it.

It is looked at at the next step of the run. A result that may still be on its
way is waited for.
"""


class ManualHPCOperator(RequestOperator):
    """Have a person carry kits to a cluster and results home.

    Parameters
    ----------
    empty_output_grace_s : float
        How long an ``output/`` with nothing whole in it may be a transfer under way, in
        seconds; 0 judges at once.
    preamble : str
        Lines of shell before the command: ``module load ...``.
    sbatch : sequence of str
        More options for the ``#SBATCH`` lines, as in ``--partition=long``.
    notify : callable or sequence of str, optional
        Told once of each kit; see `HumanOperator`.
    """

    traits = Traits(by_people=True, results_folder=_OUTPUT)
    wants = "output/"

    def __init__(
        self,
        *,
        empty_output_grace_s: float = 3600.0,
        preamble: str = "",
        sbatch: Sequence[str] = (),
        notify: Notify | None = None,
    ) -> None:
        if not (isinstance(empty_output_grace_s, int | float) and empty_output_grace_s >= 0):
            raise InvalidConfigError(f"empty_output_grace_s must be seconds, not {empty_output_grace_s!r}")
        if not isinstance(preamble, str) or "\0" in preamble:
            raise InvalidConfigError(f"preamble must be lines of shell, not {preamble!r}")
        for option in sbatch:
            if not (isinstance(option, str) and option.startswith("-") and option.isprintable()):
                raise InvalidConfigError(f"sbatch must list options such as '--partition=long', not {option!r}")
        check_notify(notify)
        self.empty_output_grace_s = empty_output_grace_s
        self.preamble = preamble
        self.sbatch = tuple(sbatch)
        self.notify = notify

    def __repr__(self) -> str:
        return f"ManualHPCOperator(empty_output_grace_s={self.empty_output_grace_s:g})"

    def settings(self) -> Mapping[str, Any] | None:
        """Return the constructor's arguments; None where ``notify`` is a function."""
        if callable(self.notify):
            return None
        return {
            "empty_output_grace_s": self.empty_output_grace_s,
            "preamble": self.preamble,
            "sbatch": list(self.sbatch),
            "notify": None if self.notify is None else list(self.notify),
        }

    def check_task(self, task: Task) -> None:
        """Refuse a task without a command."""
        if task.command is None:
            raise InvalidTaskError(
                f"task {task.task_id!r} has no command, and a kit is made to run one", task_id=task.task_id
            )
        check_options(task.resources.extra, f"task {task.task_id!r}: extra")
        for name, value in task.env.items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise InvalidTaskError(
                    f"task {task.task_id!r}: a shell cannot set the variable {name!r}", task_id=task.task_id
                )
            if value.startswith(_SECRET) and not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", value):
                raise InvalidTaskError(
                    f"task {task.task_id!r}: {value!r} names no variable a shell can have", task_id=task.task_id
                )

    def prepare(self, attempt: Attempt) -> None:
        """Make the kit from the task's files."""
        directory = attempt.directory
        placed = os.listdir(directory)
        gathered = directory / MACHINERY  # no file of a task has this name, and one may be called inputs
        gathered.mkdir()
        for name in placed:
            (directory / name).rename(gathered / name)
        gathered.rename(directory / "inputs")
        task = attempt.task
        secrets = [value.removeprefix(_SECRET) for value in task.env.values() if value.startswith(_SECRET)]
        need = f"\n   The environment must have: {', '.join(secrets)}." if secrets else ""
        (directory / "HOWTO.txt").write_text(_HOWTO.format(secrets=need), encoding="utf-8")
        (directory / "submit.sh").write_text(_script(attempt, task, self.preamble, self.sbatch), encoding="utf-8")
        (directory / "submit.sh").chmod(0o755)
        manifest = {
            "kit": 1,
            "token": attempt.token,
            "task_id": attempt.task_id,
            "iteration": attempt.iteration,
            "attempt": attempt.attempt,
            "outputs": list(task.outputs),
            "sha256": {name: digest(directory, name) for name in sorted(_files(directory))},
        }
        (directory / "MANIFEST.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")

    def cancel(self, attempts: Sequence[Attempt]) -> Collection[str]:
        """Note in each kit that it is no longer wanted."""
        for attempt in attempts:
            if attempt.directory.is_dir():
                write_inside(attempt.directory, "CANCELLED.txt", b"This kit is no longer wanted.\n")
        return [attempt.token for attempt in attempts]

    def collect_results(self, attempt: Attempt) -> Any:
        """Check once more what came home, and return the content of result.json."""
        came = _look(attempt)
        if came.wrong:
            raise AttemptFailedError(came.wrong)
        return read_result(f"{attempt.directory}/{_OUTPUT}")

    def judge(self, attempt: Attempt, at: float) -> Observation:
        """Return what came home, and what that means."""
        came = _look(attempt)
        if came.said == "FAILED":
            code = came.exit_code
            reason = f"exit code {code}{last_words(attempt.directory / _OUTPUT)}"
            return Observation(Seen.ENDED, ok=False, reason=reason, exit_code=code, ended_at=at)
        if came.said == "COMPLETED" and came.wrong:
            return Observation(Seen.ENDED, ok=False, reason=f"it says COMPLETED, but {came.wrong}", ended_at=at)
        if came.said == "COMPLETED":
            return Observation(Seen.ENDED, exit_code=came.exit_code, ended_at=at)
        limit = attempt.task.timeout_s
        if not came.anything:
            if limit is not None and at - attempt.submitted_at >= limit:
                return self._over(attempt, f"nothing was brought home within {limit:g} s")
            return Observation(Seen.WAITING, reason=came.unknown_to_us or waits_for(attempt, "output/"))
        state = f"{came.state} {'right' if came.wrong is None else 'wrong'}"
        since = note_unchanged(attempt, "output.json", state, at)
        if came.wrong is None:
            # Nothing says that this is all, so it has to lie still for a moment.
            if since is not None and not 0 <= at - came.changed_at < _SETTLE_S:
                return Observation(Seen.ENDED, ended_at=at)
            return Observation(Seen.WAITING, reason="what came home is looked at once more", settling=True)
        waited_s = 0.0 if since is None else at - since
        if waited_s >= self.empty_output_grace_s:
            return self._over(attempt, f"{came.wrong}, and nothing more came for {self.empty_output_grace_s:g} s")
        left = self.empty_output_grace_s - waited_s
        return Observation(
            Seen.WAITING, reason=f"{came.wrong}; a transfer may be under way, it is waited for {left / 60:.0f} min more"
        )

    def _over(self, attempt: Attempt, reason: str) -> Observation:
        if attempt.status is AttemptStatus.WAITING:
            return Observation(Seen.EXPIRED, reason=reason)
        return Observation(Seen.WAITING, reason=reason, settling=True)  # one move after the other


class _Came(NamedTuple):
    """What was found of a kit's results.

    ``said`` is how the command ended, where that is told; ``wrong`` why the results cannot be
    taken as they are; ``anything`` whether there is an output at all; ``unknown_to_us`` what is
    there and is not understood; ``state`` changes when anything changes.
    """

    said: str | None
    exit_code: int | None
    wrong: str | None
    anything: bool
    unknown_to_us: str | None
    state: str
    changed_at: float


def _look(attempt: Attempt) -> _Came:
    """Look at what came home, without following links."""
    directory = attempt.directory
    if not directory.is_dir():
        raise UnsafeFileError(f"the kit {attempt.name} is not there any more")
    said, code, unknown_to_us = _status(attempt)
    output = directory / _OUTPUT
    if not os.path.lexists(output):
        wrong = "output/ is not there" if said else None
        return _Came(said, code, wrong, said is not None, unknown_to_us, "", 0.0)
    if output.is_symlink() or not output.is_dir():
        raise UnsafeFileError("output is a link or a file, and must be a directory")
    whole: list[str] = []
    partial: list[str] = []
    state = hashlib.sha256(_stamp(directory / "output.sha256"))
    changed_at = 0.0
    wanted = set(attempt.task.outputs)
    for name in _files(output):
        parts = name.split("/")
        is_partial = name not in wanted and any(_PARTIAL.match(part) for part in parts)
        (partial if is_partial else whole).append(name)
        state.update(name.encode(errors="surrogateescape") + _stamp(output / name))
        changed_at = max(changed_at, os.lstat(output / name).st_ctime)
    wrong = unknown_to_us or _wrong(attempt, whole, partial, said, state.hexdigest())
    return _Came(said, code, wrong, True, unknown_to_us, state.hexdigest(), changed_at)


def _stamp(path: Path) -> bytes:
    """Return what changes when a file is written."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return b"none"
    return f"\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}\n".encode()


@functools.lru_cache(maxsize=256)
def _sums(directory: str, state: str) -> str | None:
    """Check the sums once for each state of the files."""
    return check_sums(Path(directory))


def _wrong(attempt: Attempt, whole: list[str], partial: list[str], said: str | None, state: str) -> str | None:
    if not whole:
        return (
            f"output/ holds only {', '.join(partial[:3])}, which is half a transfer" if partial else "output/ is empty"
        )
    there = set(whole)
    for name in attempt.task.outputs:
        if name not in there:
            return f"the expected output {name} is missing"
        with open(open_inside(attempt.directory / _OUTPUT, name), "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return f"the expected output {name} is empty"
    if partial and said is None:
        return f"{partial[0]} is half a transfer"
    return _sums(str(attempt.directory), state)


def check_sums(directory: Path) -> str | None:
    """Return what differs from ``output.sha256``; None where nothing does, or there are no sums."""
    try:
        text = read_inside(directory, "output.sha256", 50_000_000).decode(errors="replace")
    except FileNotFoundError:
        return None
    for line in text.splitlines():
        expected, _, name = line.partition("  ")
        name = name.removeprefix("./")
        try:
            if digest(directory / _OUTPUT, name) != expected:
                return f"{name} is not what the command left: its SHA-256 differs"
        except FileNotFoundError:
            return f"{name} is missing, and output.sha256 lists it"
    return None


def _status(attempt: Attempt) -> tuple[str | None, int | None, str | None]:
    """Return how the command ended and its exit code, as ``status.json`` or ``done`` say; and what is unclear."""
    directory = attempt.directory
    try:
        said = parse_json(read_inside(directory, "status.json", MAX_BYTES))
    except FileNotFoundError:
        try:
            os.close(open_inside(directory, "done"))
        except (FileNotFoundError, UnsafeFileError):
            return None, None, None
        return "COMPLETED", None, None
    except InvalidJsonError as error:
        return None, None, f"status.json cannot be read: {error}"
    if not isinstance(said, dict) or said.get("status") not in ("COMPLETED", "FAILED"):
        return None, None, "status.json must say COMPLETED or FAILED as its status"
    token = said.get("token", attempt.token)
    if token != attempt.token:
        return None, None, f"status.json is of another kit ({str(token)[:40]!r}); this one is {attempt.token}"
    code = said.get("exit_code")
    return said["status"], code if isinstance(code, int) and not isinstance(code, bool) else None, None


def _files(root: Path) -> Iterator[str]:
    """Yield every file below `root`, relative; links count as files, and are not followed.

    Raises
    ------
    UnsafeFileError
        There are too many.
    """
    number = 0
    for folder, folders, files in os.walk(root):
        folders.sort()
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted([*files, *linked]):
            number += 1
            if number > _MOST_FILES:
                raise UnsafeFileError(f"{root.name}/ holds more than {_MOST_FILES} files")
            yield os.path.relpath(os.path.join(folder, name), root)


def digest(root: Path, relative: str) -> str:
    """Return the SHA-256 of a plain file below `root`."""
    with open(open_inside(root, relative), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _script(attempt: Attempt, task: Task, preamble: str, sbatch: Sequence[str]) -> str:
    """Return submit.sh."""
    options = [f"--job-name={attempt.token}", *sbatch_options(task.resources.scaled(attempt.attempt)), *sbatch]
    directives = "".join(f"#SBATCH {option}\n" for option in options)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in attempt.variables.items()]
    for name, value in task.env.items():
        if value.startswith(_SECRET):
            secret = value.removeprefix(_SECRET)
            lines += [f': "${{{secret}:?has to be set: the task needs it}}"', f'export {name}="${secret}"']
        else:
            lines.append(f"export {name}={shlex.quote(value)}")
    command = task.command if isinstance(task.command, str) else shlex.join(task.command or ())
    return f"""#!/bin/sh
{directives}# Runs one attempt of task {attempt.task_id}. HOWTO.txt says how.
PATH="${{PATH:-/usr/local/bin:/usr/bin:/bin}}"
export PATH
if [ -n "$SLURM_JOB_ID" ] && [ -n "$SLURM_SUBMIT_DIR" ]; then
  cd "$SLURM_SUBMIT_DIR" || exit 1
else
  cd "$(dirname "$0")" || exit 1
fi
if ! mkdir output 2>/dev/null; then
  echo "output/ is there already: this kit ran before, or runs now. Remove output/ and status.json to run it again." >&2
  exit 1
fi
rm -f status.json output.sha256
cp -R inputs/. output/ || exit 1
{chr(10).join(lines)}
{preamble}
(cd output && exec sh -c {shlex.quote(command)}) </dev/null >output/stdout.txt 2>output/stderr.txt
code=$?
if command -v sha256sum >/dev/null 2>&1; then
  (cd output && find . -type f -exec sha256sum {{}} +) >output.sha256.new && mv output.sha256.new output.sha256
fi
status=COMPLETED
[ "$code" -eq 0 ] || status=FAILED
printf '{{"token": "{attempt.token}", "status": "%s", "exit_code": %d}}\\n' "$status" "$code" >status.json.new
mv status.json.new status.json
exit "$code"
"""
