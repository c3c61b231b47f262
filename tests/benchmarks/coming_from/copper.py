"""The physics of the campaign, the same for every tool: an equation of state of copper by ASE's EMT.

Each call leaves lines in the file that ``CALLS`` names, so that one can count what was done, and done again.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

SCALES = (0.96, 0.98, 1.00, 1.02, 1.04, 1.06)
HELD = 1.00  # this member waits for as long as the file that HOLD names is there
MOST_S = 60


def cells() -> dict[str, Atoms]:
    """Return strained cells. The last holds iron, which EMT does not know: that member fails."""
    made = {}
    for scale in SCALES:
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell * scale, scale_atoms=True)
        atoms.set_constraint(FixAtoms([0]))
        atoms.info["scale"] = scale
        made[f"{scale:.2f}"] = atoms
    made["1.06"].symbols[1] = "Fe"
    return made


def energy(atoms: Atoms) -> dict[str, Any]:
    """Return the energy, and the cell that knows it; with LIVE, the cell keeps the calculator that made it."""
    note("begin", f"{atoms.info['scale']:.2f}")
    if atoms.info["scale"] == HELD:
        hold()
    atoms = atoms.copy()
    atoms.calc = EMT()
    energy_eV = float(atoms.get_potential_energy())
    if "LIVE" not in os.environ:
        atoms.calc = SinglePointCalculator(atoms, energy=energy_eV)
    note("end", f"{atoms.info['scale']:.2f}")
    return {"energy_eV": energy_eV, "atoms": atoms}


def fit(members: list[dict[str, Any] | None]) -> dict[str, Any]:
    """Fit a parabola to the energies of the members that there are, and say how their cells arrived."""
    note("begin", "fit")
    there = [member for member in members if member is not None]
    volumes = [member["atoms"].get_volume() for member in there]
    bent, slope, _ = np.polyfit(volumes, [member["energy_eV"] for member in there], 2)
    note("end", "fit")
    return {
        "volume_A3": round(float(-slope / bent / 2), 2),
        "members": len(there),
        "arrived": described(there[0]["atoms"]),
    }


def described(atoms: Atoms) -> str:
    """Return which of what a cell had it still has."""
    results = "no calculator" if atoms.calc is None else f"its energy ({type(atoms.calc).__name__})"
    return f"{type(atoms).__name__} with {results}, {len(atoms.constraints)} constraint, info {sorted(atoms.info)}"


def note(event: str, name: str) -> None:
    """Append a line of what begins or ends, and in which process."""
    if "CALLS" in os.environ:
        with open(os.environ["CALLS"], "a") as file:
            file.write(f"{event} {name} {os.getpid()}\n")


def hold() -> None:
    """Wait until the file that HOLD names is gone."""
    until = time.monotonic() + MOST_S
    while "HOLD" in os.environ and Path(os.environ["HOLD"]).exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{os.environ['HOLD']} is still there")
        time.sleep(0.01)
