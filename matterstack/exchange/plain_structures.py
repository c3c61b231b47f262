"""Structures as plain JSON, as jobflow keeps those of pymatgen: read as atoms, by their numbers alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_ARRAYS = ("numbers", "positions", "cell", "pbc", "tags", "momenta", "masses", "initial_magmoms", "initial_charges")
#: Those with a vector for each atom, or for the cell.
_VECTORS = ("positions", "cell", "momenta")
#: What else ASE calls them when it makes atoms.
_SAID = {"initial_magmoms": "magmoms", "initial_charges": "charges"}


def atoms_of_plain(plain: Mapping[str, Any]) -> Any:
    """Return the atoms of a structure or molecule of pymatgen, or of atoms of ASE, that were written as JSON.

    Nothing that the JSON names is imported, since it may be of a run that is not trusted.

    Parameters
    ----------
    plain : mapping
        What ``as_dict()`` of it gave.

    Returns
    -------
    ase.Atoms or None
        None where it is something else, in disorder, or not as pymatgen writes it.
    """
    if str(plain.get("@module")).partition(".")[0] != "pymatgen":
        return None
    try:
        atoms = _written_by_ase(plain) if "atoms_json" in plain else _written_by_pymatgen(plain)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return None
    return atoms if atoms is not None and _is_sound(atoms) else None


def _written_by_pymatgen(plain: Mapping[str, Any]) -> Any:
    from ase import Atoms

    sites = plain["sites"]
    if any(len(site["species"]) != 1 or site["species"][0]["occu"] != 1 for site in sites):
        return None
    symbols = [site["species"][0]["element"] for site in sites]
    if "lattice" in plain:
        lattice = plain["lattice"]
        scaled = _vectors([site["abc"] for site in sites])
        cell = _vectors(lattice["matrix"])
        if not cell.any(axis=1).all():
            return None  # ASE asserts that no vector of it is nothing
        atoms: Any = Atoms(symbols, scaled_positions=scaled, cell=cell, pbc=lattice.get("pbc", True))
    elif str(plain.get("@class")).endswith("Molecule"):
        atoms = Atoms(symbols, positions=_vectors([site["xyz"] for site in sites]))
    else:
        return None
    said = [site.get("properties") or {} for site in sites]
    for name, take in (("magmom", atoms.set_initial_magnetic_moments), ("charge", atoms.set_initial_charges)):
        values = [of_site.get(name) for of_site in said]
        if all(isinstance(value, int | float) for value in values):
            take(values)
    free = [of_site.get("selective_dynamics", (True, True, True)) for of_site in said]
    _fix(atoms, [[not one for one in of_site] for of_site in free])
    return atoms


def _written_by_ase(plain: Mapping[str, Any]) -> Any:
    from ase import Atoms

    written = json.loads(plain["atoms_json"])
    arrays = {name: array["__ndarray__"][2] for name, array in written.items() if name in _ARRAYS}
    arrays |= {name: _vectors(arrays[name]) for name in _VECTORS if name in arrays}
    atoms: Any = Atoms(**{_SAID.get(name, name): array for name, array in arrays.items()})
    fixed = [[False] * 3 for _ in atoms]
    for one in written.get("constraints", ()):
        if one["name"] in ("FixAtoms", "FixCartesian"):
            kwargs = one["kwargs"]
            for index in kwargs["indices"] if one["name"] == "FixAtoms" else kwargs["a"]:
                mask = kwargs.get("mask", (True, True, True))
                fixed[index] = [before or now for before, now in zip(fixed[index], mask, strict=True)]
    _fix(atoms, fixed)
    return atoms


def _fix(atoms: Any, fixed: Sequence[Sequence[bool]]) -> None:
    """Constrain atoms, by which coordinates of each are fixed."""
    from ase import constraints

    make: Any = constraints
    kinds: dict[tuple[bool, ...], list[int]] = {}
    for index, of_atom in enumerate(fixed):
        kinds.setdefault(tuple(map(bool, of_atom)), []).append(index)
    kinds.pop((False, False, False), None)
    if any(len(mask) != 3 for mask in kinds):
        raise ValueError("an atom has three coordinates")
    atoms.set_constraint(
        [make.FixAtoms(which) if all(mask) else make.FixCartesian(which, mask=mask) for mask, which in kinds.items()]
    )


def _vectors(given: Any) -> Any:
    import numpy as np

    return np.array(given, dtype=float).reshape(-1, 3)


def _is_sound(atoms: Any) -> bool:
    """Return whether atoms are of elements that there are, at places that are finite."""
    import numpy as np

    numbers = all(0 <= number < 119 for number in atoms.numbers)
    return numbers and all(np.isfinite(part).all() for part in (atoms.positions, atoms.cell.array))
