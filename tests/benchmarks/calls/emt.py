"""A single point of ASE's EMT, 32 atoms of copper."""

from __future__ import annotations

from ase.build import bulk
from ase.calculators.emt import EMT
from memory import own_memory


def call(scale):
    atoms = bulk("Cu", a=3.6 * scale, cubic=True) * (2, 2, 2)
    atoms.rattle(0.02, seed=1)
    atoms.calc = EMT()
    return float(atoms.get_potential_energy())


def memory(scale):
    call(scale)
    return own_memory()
