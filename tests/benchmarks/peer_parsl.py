"""The same workload by Parsl, two threads, with a checkpoint at every task's exit: ``peer_parsl.py layers|chain N``."""

from __future__ import annotations

import sys

import parsl
from parsl.config import Config
from parsl.dataflow.memoization import BasicMemoizer
from parsl.executors import ThreadPoolExecutor

kind, count = sys.argv[1], int(sys.argv[2])
parsl.load(
    Config(
        executors=[ThreadPoolExecutor(max_threads=2)],
        memoizer=BasicMemoizer(checkpoint_mode="task_exit"),
        usage_tracking=0,
        initialize_logging=False,
    )
)


@parsl.python_app(cache=True)
def true(number, inputs=()):
    import subprocess

    return subprocess.run(["/bin/true"], check=True).returncode


futures = {}
if kind == "chain":
    for n in range(count):
        futures[n] = true(n, inputs=[futures[n - 1]] if n else [])
else:
    width = count // 10
    for layer in range(10):
        for n in range(width):
            above = [futures[layer - 1, n], futures[layer - 1, (n + 1) % width]] if layer else []
            futures[layer, n] = true(layer * width + n, inputs=above)
assert sum(future.result() == 0 for future in futures.values()) == count
parsl.dfk().cleanup()
