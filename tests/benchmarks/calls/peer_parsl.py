"""The calls by Parsl's HighThroughputExecutor: a pool of two workers."""

from __future__ import annotations

import time

import parsl
from asked import asked, tell
from parsl.config import Config
from parsl.executors import HighThroughputExecutor

if __name__ == "__main__":
    _, function, given = asked()
    executor = HighThroughputExecutor(max_workers_per_node=2, address="127.0.0.1", cores_per_worker=1)
    began = time.perf_counter()
    with parsl.load(Config(executors=[executor], usage_tracking=0, initialize_logging=False)):
        app = parsl.python_app(function)
        futures = [app(x) for x in given]
        tell(began, [future.result() for future in futures])
