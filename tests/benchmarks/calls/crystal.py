"""CHGNet: its model is loaded, and a single point of lithium cobalt oxide's cell is made with it, on the CPU."""

from __future__ import annotations

from chgnet.model import CHGNet
from memory import own_memory
from pymatgen.core import Lattice, Structure


def call(scale):
    model = CHGNet.load(use_device="cpu", verbose=False)
    lattice = Lattice.rhombohedral(4.96 * scale, 33.0)
    cell = Structure(lattice, ["Li", "Co", "O", "O"], [[0.5] * 3, [0.0] * 3, [0.24] * 3, [0.76] * 3])
    return float(model.predict_structure(cell)["e"])


def memory(scale):
    call(scale)
    return own_memory()
