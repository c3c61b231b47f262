"""Which notebooks are tested where: 04 where a Slurm can be started, from 05 on where their packages are installed."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from no_skips import pytest_runtest_makereport
from slurm_lab import cluster

__all__ = ["pytest_runtest_makereport", "pytest_runtest_setup", "pytest_sessionfinish"]

#: What needs more than the extra `test` is collected where it is asked for by name, as `.ci/run` does.
collect_ignore_glob = ["0[5-9]_*.ipynb", "*_screening", "self_driving"]

_stack = ExitStack()
_started = False


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start a cluster before the notebook's kernel, which inherits its address."""
    global _started
    if item.path.name != "04_slurm.ipynb" or _started:
        return
    _stack.enter_context(cluster(26877, SLURM_LAB_CPUS="4"))
    _started = True


def pytest_sessionfinish() -> None:
    """Stop the cluster, however the session ended."""
    _stack.close()
