"""The texts of a kit: what it says to the person who carries it, and the script that runs it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from matterstack.core.attempts import Attempt
from matterstack.core.task import Task
from matterstack.operators.sbatch import sbatch_options

SECRET = "env:"
#: Where Slurm writes what the job itself prints. It is opened before output/ is there, so it lies beside it.
SLURM_OUT = "slurm.out"

_HOWTO = """\
How to run the kit {name}, and bring it home. This is {attempt}.

{show}1. Copy this whole directory to where it shall run.
2. There, in this directory, either
       sbatch submit.sh          (Slurm; check the #SBATCH lines first)
   or
       sh submit.sh              (any machine with a POSIX shell)
   It runs the command in output/, with what is in inputs/.{secrets}
   The #SBATCH lines of submit.sh may be changed and added to as the cluster wants
   it (account, partition, time). Leave the rest of submit.sh as it is.
3. When it has ended, bring output/, output.sha256 and status.json back into this
   directory, for example with rsync -rtL. {wanted}
   Or pack this whole directory there, with
       zip -r back.zip {name}    or    tar -czhf back.tar.gz {name}
   and have it taken in with run.import_kits("back.zip").

status.json says RUNNING from the beginning, and at the end COMPLETED or FAILED.
Nothing is taken while it says RUNNING. If it still does when the job is over, the
job was killed, for example by its time limit: {slurm_out} tells. Then remove output/
and status.json there, and run the kit again with more time.

If you run the command in another way: put its results into output/, and then
make an empty file called done beside it (touch done). It says that all went well.

It is looked at at the next step of the run. A result that may still be on its
way is waited for.
"""

_SHOW = """\
In show/ is what you may want to look at first: files of the tasks before. The
command does not need it.

"""


def try_of(attempt: Attempt) -> str:
    """Return which try it is, and of how many, in plain words.

    A person may have asked for more tries than the task has of its own.
    """
    most = attempt.task.retries + 1
    return f"try {attempt.attempt} of {most}" if attempt.attempt <= most else f"try {attempt.attempt}"


def secrets_of(task: Task) -> list[str]:
    """Return the variables that have to be set where the kit runs."""
    return [value.removeprefix(SECRET) for value in task.env.values() if value.startswith(SECRET)]


def howto(attempt: Attempt) -> str:
    """Return HOWTO.txt."""
    secrets, outputs = secrets_of(attempt.task), list(attempt.task.outputs)
    named = ", ".join(outputs[:10]) + (f", and {len(outputs) - 10} more that MANIFEST.json lists" * (len(outputs) > 10))
    besides = "result.json and value/ where there are" if attempt.task.call else "result.json where there is one"
    wanted = f"Of output/ there have to come:\n   {named}, and {besides}." if outputs else ""
    return _HOWTO.format(
        name=attempt.record.name,
        attempt=try_of(attempt),
        show=_SHOW if attempt.task.shown else "",
        secrets=f"\n   The environment must have: {', '.join(secrets)}." if secrets else "",
        wanted=f"{wanted} Large files that nobody needs\n   may stay there." if outputs else "Bring all of output/.",
        slurm_out=SLURM_OUT,
    )


def script(attempt: Attempt, preamble: str, sbatch: Sequence[str], python: str) -> str:
    """Return submit.sh; the inputs of the kit are in their place."""
    task = attempt.task
    resources = sbatch_options(task.resources.scaled(attempt.attempt))
    options = [f"--job-name={attempt.token}", f"--output={SLURM_OUT}", *resources, *sbatch]
    directives = "".join(f"#SBATCH {option}\n" for option in options)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in attempt.variables.items()]
    for name, value in task.env.items():
        if value.startswith(SECRET):
            lines.append(f'export {name}="${value.removeprefix(SECRET)}"')
        else:
            lines.append(f"export {name}={shlex.quote(value)}")
    need = "".join(f': "${{{name}:?has to be set: the task needs it}}"\n' for name in secrets_of(task))
    said = task.command_with(python)
    command = said if isinstance(said, str) else shlex.join(said)
    # An archive has no empty folders, so one without inputs has no inputs/; any other has to have come whole.
    copy = "cp -R inputs/. output/ || {\n  rm -rf output status.json\n  exit 1\n}\n"
    inputs = copy if any((attempt.directory / "inputs").iterdir()) else ""
    return f"""#!/bin/sh
{directives}# Runs one attempt of task {attempt.task_id}. HOWTO.txt says how.
PATH="${{PATH:-/usr/local/bin:/usr/bin:/bin}}"
export PATH
here=$(dirname "$0")
# Slurm runs a copy of this file, which lies elsewhere.
[ -f "$here/MANIFEST.json" ] || here=${{SLURM_SUBMIT_DIR:-$here}}
cd "$here" || exit 1
if ! grep -q {attempt.token} MANIFEST.json 2>/dev/null; then
  echo "$here is not the directory of this kit: go there (cd), and start submit.sh from there." >&2
  exit 1
fi
{need}if ! mkdir output 2>/dev/null; then
  echo "output/ is there already: this kit ran before, or runs now. Remove output/ and status.json to run it again." >&2
  exit 1
fi
say() {{
  printf '{{"token": "{attempt.token}", %s}}\\n' "$1" >status.json.new && mv -f status.json.new status.json
}}
# Until it is over, status.json says that it runs: whoever looks at it then does not take it for one that ended.
rm -f output.sha256 done
host=$(uname -n | tr -cd 'A-Za-z0-9._-')
now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
say '"status": "RUNNING", "started_at": "'"$now"'", "host": "'"$host"'"' || exit 1
{inputs}{chr(10).join(lines)}
{preamble}
if (cd output && exec sh -c {shlex.quote(command)}) </dev/null >output/stdout.txt 2>output/stderr.txt; then
  code=0
else
  code=$?
fi
sums=
sum=
if command -v sha256sum >/dev/null 2>&1; then
  sum=sha256sum
elif command -v shasum >/dev/null 2>&1; then
  sum='shasum -a 256'
fi
if [ -n "$sum" ]; then
  (cd output && find . -type f -exec $sum {{}} +) >output.sha256.new &&
    mv -f output.sha256.new output.sha256 && sums=$($sum <output.sha256 | cut -c1-64)
fi
status=COMPLETED
[ "$code" -eq 0 ] || status=FAILED
say '"sums": "'"$sums"'", "status": "'"$status"'", "exit_code": '"$code"
exit "$code"
"""


def same_script(one: bytes, other: bytes) -> bool:
    r"""Return whether two submit.sh differ at most in the lines that sbatch reads before the first command.

    Examples
    --------
    >>> same_script(b"#!/bin/sh\n#SBATCH --nodes=1\ntrue\n", b"#!/bin/sh\n#SBATCH --account=abc\ntrue\n")
    True
    >>> same_script(b"#!/bin/sh\ntrue\n", b"#!/bin/sh\nfalse\n")
    False
    """
    return _commands(one) == _commands(other)


def _commands(script: bytes) -> list[bytes]:
    lines = script.split(b"\n")
    head = 0
    while head < len(lines) and (not lines[head].strip() or lines[head].startswith(b"#")):
        head += 1
    return [lines[0], *lines[max(head, 1) :]]  # the first line says which shell runs it; other comments run nothing
