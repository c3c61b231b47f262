"""The calls by executorlib on this machine: ``block`` keeps two workers, ``single`` has a process a call."""

from __future__ import annotations

import time

from asked import asked, tell
from executorlib import SingleNodeExecutor

if __name__ == "__main__":
    mode, function, given = asked()
    began = time.perf_counter()
    with SingleNodeExecutor(max_workers=2, block_allocation=mode == "block") as executor:
        futures = [executor.submit(function, x) for x in given]
        tell(began, [future.result() for future in futures])
