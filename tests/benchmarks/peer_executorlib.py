"""The same workload by executorlib, two workers, results cached in files: ``peer_executorlib.py layers|chain N``."""

from __future__ import annotations

import sys

from executorlib import SingleNodeExecutor


def true(*above):
    import subprocess

    return subprocess.run(["/bin/true"], check=True).returncode


if __name__ == "__main__":
    kind, count = sys.argv[1], int(sys.argv[2])
    with SingleNodeExecutor(max_workers=2, block_allocation=True, cache_directory="cache") as executor:
        done = 0
        if kind == "chain":
            for n in range(count):
                done += executor.submit(true, n).result() == 0
        else:
            # Workers that stay take no futures as arguments, so a layer waits for the one above it.
            width = count // 10
            for layer in range(10):
                futures = [executor.submit(true, layer, n) for n in range(width)]
                done += sum(future.result() == 0 for future in futures)
    assert done == count
