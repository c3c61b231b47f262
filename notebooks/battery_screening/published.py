"""What was measured, each with the source it was read in, and how near is near enough.

Only values that stand in words or numbers in a text that was read are here. The average voltages of the other layered
oxides are told in figures, over other ranges of lithium, or of crystals that are not layered; they are left out.
"""

import math

import pandas as pd

#: Written down before the run. If each energy of CHGNet is off by 30 meV an atom, independently, the voltage is off by
#: 0.15 V (four atoms of LiMO2, three of MO2, one of lithium). GGA+U itself is off by a few per cent, another 0.15 V,
#: and so is a measured average that does not go to zero lithium. In the worst case the first two add up.
TOLERANCE_V = 0.3

#: A cathode, its average voltage against lithium metal, who measured it, and where that was read.
VOLTAGES = {
    "Ni": {
        "measured_V": 3.85,
        "measured_by": "C. Delmas et al., Int. J. Inorg. Mater. 1, 11 (1999)",
        "read_in": "F. Zhou et al., Phys. Rev. B 70, 235121 (2004), section III B",
        "doi": "10.1103/PhysRevB.70.235121",
    },
}

#: Short and long Ni-O bonds around Ni(III) in LiNiO2, measured locally; the crystal as a whole is not
#: distorted. Read there too.
NICKEL_BONDS_A = (1.91, 2.14)

#: CoO2 without any lithium is of the O1 type (one layer a cell), not O3 as here: a = 2.822 Å, c = 4.29 Å.
#: G. G. Amatucci, J. M. Tarascon and L. C. Klein, J. Electrochem. Soc. 143, 1114 (1996), read in its abstract.
COO2_DOI = "10.1149/1.1836594"
COO2_VOLUME_A3 = math.sqrt(3) / 2 * 2.822**2 * 4.29


def beside_experiment(table):
    """Return calculated and measured voltages side by side; a cathode without a value that was read has none."""
    measured = pd.DataFrame(VOLTAGES).T.reindex(table.index)
    beside = pd.DataFrame({"CHGNet_V": table["voltage_V"], "measured_V": measured["measured_V"].astype(float)})
    beside["deviation_V"] = beside["CHGNet_V"] - beside["measured_V"]
    within = beside["deviation_V"].abs() <= TOLERANCE_V
    beside[f"within_{TOLERANCE_V}_V"] = within.map({True: "yes", False: "no"}).where(beside["measured_V"].notna(), "")
    beside["doi"] = measured["doi"].fillna("")
    return beside
