"""The campaign by executorlib: results are kept in files, and the same command goes on."""

from __future__ import annotations

import copper
from executorlib import SingleNodeExecutor

if __name__ == "__main__":
    with SingleNodeExecutor(max_workers=2, cache_directory="cache") as executor:
        futures = {key: executor.submit(copper.energy, atoms) for key, atoms in copper.cells().items()}
        failed = {key: future.exception() for key, future in futures.items() if future.exception()}
        members = [None if key in failed else future.result() for key, future in futures.items()]
        result = executor.submit(copper.fit, members).result()

    print("fit:", result)
    print("failed:", failed)
