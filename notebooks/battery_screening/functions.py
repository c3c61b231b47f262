"""Functions that run as tasks: relax a crystal, get voltages from its energies, and draw what a person picks from."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from pymatgen.io.ase import AseAtomsAdaptor

import matterstack as ms
from battery_screening.structures import metal_fractions

#: Each task computes on one core; the run has as many tasks at a time as there are cores.
ONE_CORE = {"OMP_NUM_THREADS": "1"}


@ms.task(retries=1, resources=ms.Resources(walltime_s=1800), env=ONE_CORE, outputs=["relaxed.cif", "layers.xyz"])
def relax(start, fmax_eV_per_A, max_steps=1000):
    """Return the crystal in the cell and at the places where CHGNet has its energy lowest."""
    from chgnet.model import CHGNet, StructOptimizer

    model = CHGNet.load(use_device="cpu", verbose=False)
    done = StructOptimizer(model=model, use_device="cpu").relax(
        start, fmax=fmax_eV_per_A, steps=max_steps, verbose=False
    )
    crystal, path = done["final_structure"], done["trajectory"]
    moments_muB = crystal.site_properties["magmom"]
    crystal.remove_site_property("magmom")
    steps = len(path.energies) - 1
    if steps >= max_steps:
        raise RuntimeError(f"{crystal.formula} is not relaxed after {max_steps} steps")
    crystal.to(filename="relaxed.cif")
    from_the_side(crystal).write("layers.xyz")
    # Lithium metal has no oxygen: a formula unit is an atom there.
    formula_units = crystal.composition["O"] / 2 or len(crystal)
    metals = [m for m, site in zip(moments_muB, crystal, strict=True) if site.specie.symbol not in ("Li", "O")]
    return {
        "structure": crystal,
        "energy_eV_per_formula_unit": float(path.energies[-1]) / formula_units,
        "volume_A3_per_formula_unit": crystal.volume / formula_units,
        "moment_muB_per_metal": sum(metals) / len(metals) if metals else 0.0,
        "steps": steps,
        "fmax_eV_per_A": fmax_eV_per_A,
    }


def from_the_side(crystal):
    """Return three layers of the crystal, turned so that they lie one above the other when one looks along z."""
    atoms = AseAtomsAdaptor.get_atoms(crystal * (1, 1, 3))
    atoms.rotate(np.cross(atoms.cell[0], atoms.cell[1]), "y", rotate_cell=True)
    atoms.rotate(atoms.cell[0], "x", rotate_cell=True)
    return atoms


def voltages(metals, lithium, lithiated, delithiated, half=None):
    """Return the average voltage against lithium metal, its two steps where half is known, and the change of volume."""
    lithium_eV = lithium["energy_eV_per_formula_unit"]

    def voltage(full, empty, transferred):
        return (
            -(full["energy_eV_per_formula_unit"] - empty["energy_eV_per_formula_unit"] - transferred * lithium_eV)
            / transferred
        )

    found = {
        "metals": metals,
        "voltage_V": voltage(lithiated, delithiated, 1.0),
        "volume_change_percent": 100
        * (delithiated["volume_A3_per_formula_unit"] / lithiated["volume_A3_per_formula_unit"] - 1),
        "moment_lithiated_muB": lithiated["moment_muB_per_metal"],
        "moment_delithiated_muB": delithiated["moment_muB_per_metal"],
        "lithiated_eV_per_formula_unit": lithiated["energy_eV_per_formula_unit"],
        "delithiated_eV_per_formula_unit": delithiated["energy_eV_per_formula_unit"],
    }
    if half is not None:
        found["voltage_first_half_V"] = voltage(lithiated, half, 0.5)
        found["voltage_second_half_V"] = voltage(half, delithiated, 0.5)
        # Below zero, half lithium is a phase of its own; above, the cell would rather part into full and empty.
        found["half_formation_meV_per_formula_unit"] = 1000 * (
            half["energy_eV_per_formula_unit"]
            - (lithiated["energy_eV_per_formula_unit"] + delithiated["energy_eV_per_formula_unit"]) / 2
        )
    return found


def mixing(found, state):
    """Return by how many meV each mixture lies above the line between its metals, where these are known."""
    energies_eV = {metals: row[f"{state}_eV_per_formula_unit"] for metals, row in found.items()}
    above = {}
    for metals, energy_eV in energies_eV.items():
        shares = metal_fractions(metals)
        if len(shares) > 1 and all(metal in energies_eV for metal in shares):
            line_eV = sum(share * energies_eV[metal] for metal, share in shares.items())
            above[metals] = 1000 * (energy_eV - line_eV)
    return above


def tabulate(found):
    """Return a table, a row a cathode; also as a file for whoever picks."""
    table = pd.DataFrame(found.values()).set_index("metals")
    for state in ("lithiated", "delithiated"):
        table[f"mixing_{state}_meV_per_formula_unit"] = pd.Series(mixing(found, state), dtype=float)
    table = table.drop(columns=["lithiated_eV_per_formula_unit", "delithiated_eV_per_formula_unit"])
    table = table[sorted(table, key=lambda column: "moment" in column)]  # what one picks by comes first
    table.round(3).to_csv("cathodes.csv")
    return table


def chart(table):
    """Draw voltages and changes of volume, the highest voltage on top, for whoever picks."""
    ordered = table.sort_values("voltage_V")
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 1.4 + 0.27 * len(table)), sharey=True, layout="constrained")
    names = {"voltage_V": "average voltage against Li (V)", "volume_change_percent": "change of volume, emptied (%)"}
    colors = ["C0" if len(metal_fractions(metals)) == 1 else "C1" for metals in ordered.index]
    for ax, (column, name) in zip(axes, names.items(), strict=True):
        bars = ax.barh(ordered.index, ordered[column], color=colors, height=0.7)
        ax.bar_label(bars, fmt="%.2f" if column == "voltage_V" else "%.1f", padding=3, fontsize=8)
        ax.set_xlabel(name)
        ax.axvline(0, color="0.3", linewidth=0.8)
        ax.margins(x=0.2)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_title("blue: one metal, orange: two", fontsize=9, loc="left")
    figure.savefig("voltages.png", dpi=110)
