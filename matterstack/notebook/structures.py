"""Structures and trajectories: atoms by frame, from values, objects and files.

Nothing is decoded but numbers and symbols.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from matterstack.core.text import neutral
from matterstack.errors import MissingLibraryError, StructureError
from matterstack.files import open_inside, read_inside
from matterstack.notebook import structure_reader

#: Frames at once, and atoms in all of them: 12 bytes each.
MOST_FRAMES, MOST_POSITIONS = 200, 800_000
#: Atoms that are drawn unasked, and at all.
AT_ONCE, MOST_ATOMS = 500, 20_000
_MOST_JSON_BYTES = 10_000_000
_MOST_DEPTH = 4
_HEAVIEST = 118
_ARRAY_FILE = r"[0-9a-f]{64}\.npy"
_FORMATS = {".traj": "traj", ".xyz": "xyz", ".extxyz": "xyz", ".cif": "cif", ".vasp": "vasp", ".json": "json"}
_NAMES = {"POSCAR": "vasp", "CONTCAR": "vasp", "XDATCAR": "xdatcar"}
#: What numbers and shapes that make no sense raise on their way through numpy.
_NO_STRUCTURE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, RecursionError)
#: All others are metals, which are joined to each other only where they are to nothing else.
_NONMETALS = frozenset((1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 32, 33, 34, 35, 36, 51, 52, 53, 54, 85, 86))

Fetch = Callable[[str], bytes]


class Frame(NamedTuple):
    """Atoms at one moment: atomic numbers, positions and cell in ångström, and where they repeat."""

    numbers: NDArray[np.uint8]
    positions: NDArray[np.float32]
    cell: NDArray[np.float64] | None
    pbc: tuple[bool, bool, bool]

    @classmethod
    def of(cls, numbers: Any, positions: Any, cell: Any = None, pbc: Any = None) -> Frame:
        """Return a frame of what may be anything.

        Raises
        ------
        ValueError
            It is none.
        """
        counted = np.asarray(numbers)
        if counted.ndim != 1 or counted.dtype.kind not in "iu" or not len(counted):
            raise ValueError("no atomic numbers")
        if counted.min() < 0 or counted.max() > _HEAVIEST:
            raise ValueError("atomic numbers of no element")
        places = np.asarray(positions, np.float64)
        if places.shape != (len(counted), 3) or not (np.abs(places) < 1e9).all():
            raise ValueError("as many positions as atoms, in ångström")
        edges = None if cell is None else np.asarray(cell, np.float64)
        edges = np.diag(edges) if edges is not None and edges.shape == (3,) else edges
        if edges is not None and (edges.shape != (3, 3) or not (np.abs(edges) < 1e9).all()):
            raise ValueError("three vectors of a cell, in ångström")
        if edges is not None and not edges.any():
            edges = None
        repeats = [edges is not None] * 3 if pbc is None else np.broadcast_to(np.asarray(pbc, bool), (3,)).tolist()
        has = [edges is not None and bool(edges[axis].any()) for axis in range(3)]
        x, y, z = (bool(one and other) for one, other in zip(repeats, has, strict=True))
        return cls(counted.astype(np.uint8), places.astype(np.float32), edges, (x, y, z))


class Element(NamedTuple):
    """What one sees of an element: its symbol, covalent radius in ångström and colour; whether it is a metal."""

    symbol: str
    radius: float
    colour: str
    metal: bool


class Frames(NamedTuple):
    """A structure, or a trajectory: frames that can be shown, every `step`-th of `total`."""

    frames: tuple[Frame, ...]
    total: int = 1
    step: int = 1

    @property
    def formula(self) -> str:
        """The elements of the first frame, metals first, and their numbers, as ``CoLiO2``."""
        from ase.symbols import Symbols

        return str(Symbols(self.frames[0].numbers.astype(int)).formula.format("metal"))

    @property
    def atoms(self) -> int:
        """How many atoms the largest frame has."""
        return max(len(frame.numbers) for frame in self.frames)

    def as_data(self, most_atoms: int = AT_ONCE) -> dict[str, Any]:
        """Return what a page draws, as JSON.

        Parameters
        ----------
        most_atoms : int
            Of each frame, the first ones.
        """
        cut = [Frame(f.numbers[:most_atoms], f.positions[:most_atoms], f.cell, f.pbc) for f in self.frames]
        numbers = np.concatenate([frame.numbers for frame in cut])
        positions = np.concatenate([frame.positions for frame in cut])
        return {
            "counts": [len(frame.numbers) for frame in cut],
            "atoms": self.atoms,
            "most": MOST_ATOMS,
            "numbers": base64.b64encode(numbers.tobytes()).decode(),
            "positions": base64.b64encode(positions.astype("<f4").tobytes()).decode(),
            "cells": [None if frame.cell is None else frame.cell.round(6).ravel().tolist() for frame in cut],
            "pbc": [list(frame.pbc) for frame in cut],
            "elements": {str(number): element_of(int(number))._asdict() for number in np.unique(numbers)},
            "formula": self.formula,
            "total": self.total,
            "step": self.step,
        }


def element_of(number: int) -> Element:
    """Return what one sees of an element.

    Radii are those of Cordero 2008 (DOI 10.1039/b801115j), and colours those of Jmol, as ASE has them.

    Raises
    ------
    MissingLibraryError
        There is no ASE.
    """
    try:
        from ase.data import chemical_symbols, covalent_radii
        from ase.data.colors import jmol_colors
    except ImportError as error:
        raise MissingLibraryError("a structure needs ASE: pip install 'matterstack[notebook]'") from error
    red, green, blue = (round(255 * float(part)) for part in jmol_colors[min(number, len(jmol_colors) - 1)])
    colour = f"#{red:02x}{green:02x}{blue:02x}"
    return Element(chemical_symbols[number], float(covalent_radii[number]), colour, number not in _NONMETALS)


# -- of values ---------------------------------------------------------------------------------------


def frames_of_value(data: Any, fetch: Fetch | None = None) -> Frames | None:
    """Return the first structure or trajectory in a value as it is written; None where there is none.

    A structure is an ASE ``Atoms`` in the JSON form of ``ase.io.jsonio`` or of values of functions, or a pymatgen
    ``Structure`` or ``Molecule`` in that of ``as_dict``. A list of them is a trajectory.

    Parameters
    ----------
    data : object
        What was JSON.
    fetch : callable, optional
        Returns the content of an array's file by its name.
    """
    try:
        return _found(data, fetch, 0)
    except _NO_STRUCTURE:
        return None


def _found(data: Any, fetch: Fetch | None, depth: int) -> Frames | None:
    if isinstance(data, str) and '"__ase_objtype__"' in data and len(data) < _MOST_JSON_BYTES:
        data = json.loads(data)
    if isinstance(data, list) and data and _is_structure(data[0]) and all(map(_is_structure, data)):
        return _thinned(data, lambda item: _frame(item, fetch))
    if _is_structure(data):
        return Frames((_frame(data, fetch),))
    if isinstance(data, dict) and depth < _MOST_DEPTH:
        inside = (_found(value, fetch, depth + 1) for value in data.values())
        return next((found for found in inside if found is not None), None)
    return None


def _thinned(items: Sequence[Any], frame_of: Callable[[Any], Frame]) -> Frames:
    """Return as many frames of a list as a page takes."""
    first = frame_of(items[0])
    step = structure_reader.step_of(len(items), len(first.numbers), MOST_FRAMES, MOST_POSITIONS)
    return Frames((first, *map(frame_of, items[step::step])), len(items), step)


def _is_structure(data: Any) -> bool:
    if not isinstance(data, dict):
        return False
    by_ase = data.get("__ase_objtype__") == "atoms" or {"numbers", "positions"} <= data.keys()
    by_pymatgen = data.get("@class") in ("Structure", "Molecule") and "sites" in data
    return by_ase or by_pymatgen or data.get("@") == "atoms"


def _frame(data: dict[str, Any], fetch: Fetch | None) -> Frame:
    if "sites" in data:
        return _frame_of_sites(data)
    arrays = data["arrays"] if data.get("@") == "atoms" else data
    numbers, positions = (_array(arrays[name], fetch) for name in ("numbers", "positions"))
    cell = data.get("cell")
    cell = cell.get("array", cell) if isinstance(cell, dict) else cell
    return Frame.of(numbers, positions, _array(cell, fetch), _array(data.get("pbc"), fetch))


def _frame_of_sites(data: dict[str, Any]) -> Frame:
    """Return what pymatgen has written; a site that several elements share is shown as that which is there most."""
    from ase.data import atomic_numbers

    lattice = data.get("lattice") or {}
    matrix = lattice.get("matrix")
    numbers, positions = [], []
    for site in data["sites"]:
        species = max(site["species"], key=lambda one: one["occu"])
        numbers.append(atomic_numbers.get(species["element"], 0))
        positions.append(site["xyz"] if "xyz" in site else np.asarray(site["abc"]) @ np.asarray(matrix))
    return Frame.of(numbers, positions, matrix, lattice.get("pbc"))


def _array(value: Any, fetch: Fetch | None) -> Any:
    """Return an array as it is written: by ASE ``{"__ndarray__": [shape, dtype, numbers]}``, else as a value is."""
    if isinstance(value, dict) and value.get("@") == "array":
        if fetch is not None and re.fullmatch(_ARRAY_FILE, value.get("file", "")):
            return np.lib.format.read_array(io.BytesIO(fetch(value["file"])), allow_pickle=False)
        return value["values"]
    if isinstance(value, dict) and "__ndarray__" in value:
        shape, _, numbers = value["__ndarray__"]
        return np.reshape(numbers, shape)
    return value


# -- of objects --------------------------------------------------------------------------------------


def frames_of(what: Any) -> Frames:
    """Return the frames of an object: ``Atoms``, a pymatgen ``Structure`` or ``Molecule``, a value, or a list of them.

    Raises
    ------
    StructureError
        It is no structure.
    """
    try:
        found: Frames | None = _thinned(what if isinstance(what, list | tuple) else [what], _frame_of_object)
    except _NO_STRUCTURE:
        found = frames_of_value(what)
    if found is None:
        raise StructureError(
            f"{type(what).__name__} is no structure that can be shown: give ASE Atoms, a pymatgen Structure or "
            "Molecule, a list of them, the path of a file, or a value that holds one"
        )
    return found


def _frame_of_object(what: Any) -> Frame:
    if isinstance(what, dict):
        return _frame(what, None)
    if callable(getattr(what, "as_dict", None)):
        return _frame_of_sites(what.as_dict())
    return Frame.of(what.numbers, what.positions, what.cell.array, what.pbc)


# -- of files ----------------------------------------------------------------------------------------


def structure_format(name: str) -> str | None:
    """Return how a file is read, by its name; None where it is no structure. JSON may hold one, or not.

    Examples
    --------
    >>> structure_format("out/relax.traj"), structure_format("CONTCAR"), structure_format("notes.txt")
    ('traj', 'vasp', None)
    """
    path = PurePath(name)
    by_name = next((form for known, form in _NAMES.items() if path.name.upper().startswith(known)), None)
    return _FORMATS.get(path.suffix.lower(), by_name)


def frames_of_file(root: Path | str, relative: str, *, most_s: float = structure_reader.MOST_SECONDS) -> Frames:
    """Return the frames of a file; a program reads it, which this waits for: call it in a thread.

    Parameters
    ----------
    root : pathlib.Path
        A directory we trust.
    relative : str
        A path below it; no link is followed.
    most_s : float
        What takes longer is given up.

    Raises
    ------
    StructureError
        It is none that can be shown.
    FileNotFoundError
        There is nothing.
    UnsafeFileError
        A link on the way, or something that is not a plain file.
    """
    form = structure_format(relative)
    name = neutral(relative)
    if form is None:
        raise StructureError(f"{name} is no file of a structure: its name tells nothing that can be read")
    if form == "json":
        return _frames_of_json(root, relative)
    descriptor = open_inside(root, relative)
    try:
        found = subprocess.run(
            # -P: what lies beside the program, or where the kernel works, is not imported.
            [sys.executable, "-P", structure_reader.__file__, form, str(MOST_FRAMES), str(MOST_POSITIONS)],
            stdin=descriptor,
            capture_output=True,
            timeout=most_s,
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StructureError(f"{name} was not read in {most_s:.0f} s: it is too large to be shown") from None
    finally:
        os.close(descriptor)
    if found.returncode != 0:
        lines = found.stderr.decode(errors="replace").strip().splitlines() or ["took too long"]
        raise StructureError(f"{name} {neutral(lines[-1])[:300]}")
    try:
        return Frames(*_unpacked(found.stdout))
    except _NO_STRUCTURE as error:
        raise StructureError(f"{name} holds no structure that can be shown: {error}") from None


def _unpacked(content: bytes) -> tuple[tuple[Frame, ...], int, int]:
    arrays = np.load(io.BytesIO(content), allow_pickle=False)
    total, step = arrays["total_and_step"].tolist()
    ends = np.cumsum(arrays["counts"])[:-1]
    parts = (np.split(arrays["numbers"], ends), np.split(arrays["positions"], ends), arrays["cells"], arrays["pbc"])
    return tuple(Frame.of(*part) for part in zip(*parts, strict=True)), total, step


def _frames_of_json(root: Path | str, relative: str) -> Frames:
    try:
        data = json.loads(read_inside(root, relative, _MOST_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise StructureError(f"{neutral(relative)} is no JSON that can be read: {error}") from None
    found = frames_of_value(data)
    if found is None:
        raise StructureError(f"{neutral(relative)} holds no structure that can be shown")
    return found
