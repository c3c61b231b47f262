"""The program that reads a file of atoms: it takes the file as standard input, and gives NumPy arrays.

It runs beside the kernel, within limits of time and memory, and imports nothing of MatterStack. Nothing in a file is
executed or unpickled: an ASE trajectory is read as JSON and arrays of numbers, without its constraints and results.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

MOST_BYTES = 4_000_000_000
MOST_SECONDS = 60


def step_of(total: int, atoms: int, most_frames: int, most_positions: int) -> int:
    """Return how many frames to go on, for as many as are wanted to be read.

    Examples
    --------
    >>> step_of(10_000, 10, 200, 800_000), step_of(3, 10, 200, 800_000), step_of(100, 80_000, 200, 800_000)
    (50, 1, 10)
    """
    most = max(1, min(most_frames, most_positions // max(1, atoms)))
    return max(1, -(-total // most))


def count_xyz(file: BinaryIO) -> tuple[int, int]:
    """Return how many frames a file has, and how many atoms the first of them has."""
    total = first = 0
    while (head := file.readline()).strip():
        if head.lstrip().startswith(b"VEC"):  # a vector of the cell, below the atoms
            continue
        atoms = int(head)
        for _ in range(atoms + 1):
            if not file.readline():
                raise ValueError(f"frame {total} ends before its {atoms} atoms do")
        first = first or atoms
        total += 1
    return total, first


class Reading:
    """The frames of a file that are wanted, each as an ``Atoms``, and how many there are in all."""

    def __init__(self, most_frames: int, most_positions: int) -> None:
        self.most = most_frames, most_positions
        self.total = self.step = 1

    def thin(self, total: int, atoms: int) -> slice:
        """Return which frames are wanted."""
        self.total, self.step = total, step_of(total, atoms, *self.most)
        return slice(0, total, self.step)

    def traj(self, file: BinaryIO) -> Iterator[Any]:
        """Yield the frames of an ASE trajectory, which can be read one without the others."""
        from ase import Atoms
        from ase.io import ulm

        opened: Any = ulm.Reader
        with opened(file) as reader:
            if reader.get_tag() != "ASE-Trajectory":
                raise ValueError("is no ASE trajectory")
            first = reader[0]
            wanted = self.thin(len(reader), len(first.numbers))
            for number in range(*wanted.indices(len(reader))):
                frame = reader[number]
                head = frame if "numbers" in frame else first
                yield Atoms(head.numbers, frame.positions, cell=frame.cell, pbc=head.pbc)

    def xyz(self, file: BinaryIO) -> Iterator[Any]:
        """Yield the frames of an (extended) XYZ file."""
        from ase.io.extxyz import read_xyz

        wanted = self.thin(*count_xyz(file))
        yield from read_xyz(io.TextIOWrapper(_rewound(file), errors="replace"), wanted)

    def cif(self, file: BinaryIO) -> Iterator[Any]:
        """Yield the structure of each block of a CIF."""
        from ase.io.cif import parse_cif

        found: Iterator[Any] = parse_cif(io.TextIOWrapper(file, errors="replace"))
        blocks = [block for block in found if block.has_structure()]
        yield from (block.get_atoms() for block in blocks[self.thin(len(blocks), 1)])

    def vasp(self, file: BinaryIO) -> Iterator[Any]:
        """Yield the structure of a POSCAR or CONTCAR."""
        from ase.io.vasp import read_vasp

        yield read_vasp(io.TextIOWrapper(file, errors="replace"))

    def xdatcar(self, file: BinaryIO) -> Iterator[Any]:
        """Yield the frames of an XDATCAR."""
        from ase.io.vasp import read_vasp_xdatcar

        frames = read_vasp_xdatcar(io.TextIOWrapper(file, errors="replace"), index=slice(None))
        yield from frames[self.thin(len(frames), len(frames[0]) if frames else 1)]


def _rewound(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return file


def main(form: str, most_frames: str, most_positions: str) -> None:
    """Read standard input, and write the arrays of its frames to standard output."""
    import numpy as np

    reading = Reading(int(most_frames), int(most_positions))
    frames = list(getattr(reading, form)(sys.stdin.buffer))
    arrays = {
        "counts": np.array([len(atoms) for atoms in frames]),
        "numbers": np.concatenate([atoms.numbers for atoms in frames]),
        "positions": np.concatenate([atoms.positions for atoms in frames]),
        "cells": np.array([atoms.cell.array for atoms in frames]),
        "pbc": np.array([atoms.pbc for atoms in frames]),
        "total_and_step": np.array([reading.total, reading.step]),
    }
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays)
    sys.stdout.buffer.write(out.getvalue())


if __name__ == "__main__":
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    warnings.simplefilter("ignore")
    try:
        main(*sys.argv[1:])
    except MemoryError:
        sys.exit("needs more memory than is given to reading it")
    except Exception as error:  # noqa: BLE001 - whatever a file makes a parser raise is told, in a line
        sys.exit(f"cannot be read: {type(error).__name__}: {error}")
