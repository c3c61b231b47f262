"""A ledger that commands themselves append to: the witness of what was really executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import matterstack as ms
from matterstack.core.states import LIVE_ATTEMPT

#: Puts a line at the start and one at the end around a shell command.
WITNESS = (
    'echo "start $MATTERSTACK_TOKEN" >> "$LEDGER"; {command}; code=$?; '
    'echo "end $MATTERSTACK_TOKEN" >> "$LEDGER"; exit $code'
)


def witnessed(task_id: str, command: str, ledger: Path, **settings: object) -> ms.Task:
    """Return a task whose command signs the ledger when it starts and when it ends."""
    return ms.Task(task_id, WITNESS.format(command=command), env={"LEDGER": str(ledger)}, **settings)  # type: ignore[arg-type]


def starts(ledger: Path) -> Counter[str]:
    """Return how often each attempt was started, by token."""
    lines = ledger.read_text().split("\n") if ledger.exists() else []
    return Counter(line.split()[1] for line in lines if line.startswith("start "))


def check_executions(run: ms.Run, ledger: Path, besides: Sequence[str] = ()) -> None:
    """Check that nothing was executed twice, unbidden, or claimed without having run, but by some operators."""
    counted = starts(ledger)
    attempts = run.attempts
    attempts = attempts[~attempts["operator"].isin(besides)]
    assert max(counted.values(), default=0) <= 1, f"executed more than once: {counted}"
    assert set(counted) <= set(attempts["token"]), "something ran that the run does not know"
    for _, attempt in attempts[attempts["status"] == "COMPLETED"].iterrows():
        assert counted[attempt["token"]] == 1, f"{attempt['task_id']} is COMPLETED and never ran"
    completed = attempts[attempts["status"] == "COMPLETED"].groupby(["iteration", "task_id"]).size()
    assert (completed == 1).all(), "a task has two accepted results"
    if run.status is ms.RunStatus.COMPLETED:
        assert not attempts["status"].isin([str(s) for s in LIVE_ATTEMPT]).any()
