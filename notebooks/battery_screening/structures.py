"""Crystals: layered oxides of one metal or two, with all, half or none of their lithium, and lithium metal."""

import numpy as np
from pymatgen.core import Composition, Lattice, Structure

#: LiCoO2 as measured, in round numbers, is where every layered cell begins; the relaxation does the rest.
A_A, C_A, OXYGEN_Z = 2.85, 14.1, 0.24
#: Metal sites of the cell, in two rows of two.
SITES = 4
#: No symmetry of the start may keep a crystal from distorting, as around Mn(III) and Ni(III).
RATTLE_A = 0.03


def metal_fractions(metals):
    """Return the share of each metal: {"Ni": 0.5, "Co": 0.5} of "Ni0.5Co0.5"."""
    amounts = Composition(metals).get_el_amt_dict()
    total = sum(amounts.values())
    return {metal: amount / total for metal, amount in amounts.items()}


def lithium_metal():
    """Return body-centred cubic lithium."""
    return Structure.from_spacegroup("Im-3m", Lattice.cubic(3.44), ["Li"], [[0, 0, 0]])


def layered(metals, lithium=1.0):
    """Return Li_x M O2 of the O3 type (R-3m), four formula units in one layer.

    Metals fill the rows of the layer one after the other, and so does what is left of the lithium: at one half, rows
    with and without alternate, as in the ordered Li0.5CoO2.

    Parameters
    ----------
    metals : str
        "Co", or two metals in quarters, as "Ni0.75Co0.25".
    lithium : float
        The lithium per formula unit: 1, 0.5 or 0.
    """
    counts = {metal: fraction * SITES for metal, fraction in metal_fractions(metals).items()}
    if any(abs(count - round(count)) > 1e-6 for count in counts.values()):
        raise ValueError(f"{metals}: the cell has {SITES} metal sites, so shares come in quarters")
    order = [metal for metal, count in counts.items() for _ in range(round(count))]
    hexagonal = Structure.from_spacegroup(
        "R-3m", Lattice.hexagonal(A_A, C_A), ["Li", "Co", "O"], [[0, 0, 0.5], [0, 0, 0], [0, 0, OXYGEN_Z]]
    )
    cell = hexagonal.get_primitive_structure() * (2, 2, 1)
    places = {element: [i for i, site in enumerate(cell) if site.specie.symbol == element] for element in ("Li", "Co")}
    for place, metal in zip(places["Co"], order, strict=True):
        cell.replace(place, metal)
    cell.remove_sites(places["Li"][round(SITES * lithium) :])
    return rattled(cell)


def rattled(cell):
    """Return the cell with each atom moved a little, always in the same way."""
    moves_A = np.random.default_rng(0).normal(scale=RATTLE_A / 3**0.5, size=(len(cell), 3))
    return Structure(
        cell.lattice,
        cell.species,
        (cell.cart_coords + moves_A).round(6),
        coords_are_cartesian=True,
    ).get_sorted_structure()
