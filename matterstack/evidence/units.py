"""Units, as names of quantities have them at their end: ``energy_eV`` is an energy in eV."""

from __future__ import annotations

#: As names have them, and as people write them.
_UNITS = {
    "eV": "eV", "meV": "meV", "Ha": "Ha", "Ry": "Ry", "kJ_mol": "kJ/mol", "kcal_mol": "kcal/mol", "J": "J", "kJ": "kJ",
    "ang": "Å", "angstrom": "Å", "A": "Å", "nm": "nm", "um": "µm", "mm": "mm", "cm": "cm", "m": "m", "bohr": "bohr",
    "ang3": "Å³", "A3": "Å³", "deg": "°", "rad": "rad", "K": "K", "C": "°C", "Pa": "Pa", "kPa": "kPa", "MPa": "MPa",
    "GPa": "GPa", "bar": "bar", "s": "s", "ms": "ms", "us": "µs", "ns": "ns", "ps": "ps", "fs": "fs", "min": "min",
    "h": "h", "d": "d", "g": "g", "kg": "kg", "mg": "mg", "amu": "u", "mol": "mol", "V": "V", "mV": "mV",
    "mAh_g": "mAh/g", "Wh_kg": "Wh/kg", "S_cm": "S/cm", "g_cm3": "g/cm³", "kg_m3": "kg/m³", "eV_ang": "eV/Å",
    "eV_atom": "eV/atom", "meV_atom": "meV/atom", "percent": "%", "pct": "%", "Hz": "Hz", "kHz": "kHz", "MHz": "MHz",
    "GHz": "GHz", "THz": "THz", "cm1": "cm⁻¹", "T": "T", "muB": "µB", "e": "e", "W": "W", "kW": "kW",
    "gib": "GiB", "mib": "MiB",
}  # fmt: skip

#: What amounts are per, besides.
_PER = {**_UNITS, "atom": "atom", "cm3": "cm³", "m3": "m³"}


def headed(name: str) -> str:
    """Return the name of a quantity with its unit apart, where the name ends in one.

    Examples
    --------
    >>> headed("energy_eV"), headed("energy_per_atom_eV_atom"), headed("formula"), headed("e")
    ('energy (eV)', 'energy per atom (eV/atom)', 'formula', 'e')
    >>> headed("force_max_eV_per_ang"), headed("calls_per_h")
    ('force max (eV/Å)', 'calls_per_h')
    """
    parts = name.split("_")
    if "per" in parts[-2:-1]:
        known = len(parts) > 3 and parts[-3] in _UNITS and parts[-1] in _PER
        return f"{' '.join(parts[:-3])} ({_UNITS[parts[-3]]}/{_PER[parts[-1]]})" if known else name
    for length in (2, 1):
        unit = _UNITS.get("_".join(parts[-length:]))
        if unit is not None and len(parts) > length:
            return f"{' '.join(parts[:-length])} ({unit})"
    return name
