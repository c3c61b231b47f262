"""The campaign by Parsl: a checkpoint at every task's exit, and the same command goes on."""

from __future__ import annotations

import pickle

import copper
import parsl
from ase import Atoms
from parsl.config import Config
from parsl.dataflow.memoization import BasicMemoizer, id_for_memo
from parsl.executors import HighThroughputExecutor


@id_for_memo.register(Atoms)
def id_for_memo_atoms(atoms: Atoms, output_ref: bool = False) -> bytes:
    return pickle.dumps(atoms.todict())


energy = parsl.python_app(copper.energy, cache=True)
fit = parsl.python_app(copper.fit, cache=True)

if __name__ == "__main__":
    config = Config(
        executors=[HighThroughputExecutor(max_workers_per_node=2)],
        memoizer=BasicMemoizer(checkpoint_mode="task_exit"),
    )
    with parsl.load(config):
        futures = {key: energy(atoms) for key, atoms in copper.cells().items()}
        failed = {key: future.exception() for key, future in futures.items() if future.exception()}
        members = [None if key in failed else future.result() for key, future in futures.items()]
        result = fit(members).result()

    print("fit:", result)
    print("failed:", failed)
