"""Values of functions: kinds of one's own, and what an attempt returned.

``ms.values`` is this module. How values are written is `matterstack.functions.codec`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from matterstack.core.calls import Reference
from matterstack.errors import UnsafeFileError, ValueNotReadableError
from matterstack.files import read_inside
from matterstack.functions.codec import MOST_ARRAY_BYTES, MOST_JSON_BYTES, Decoder, NotReadableError, parse, register

__all__ = ["read_value", "register"]

VALUE = "value.json"
ARRAYS = "value"

#: Whose classes are data and nothing else: to make one opens no file, imports nothing and starts no program, whatever
#: it is made from. Others of pymatgen do: those that match structures import what ``@module`` says, by themselves.
_DATA_MODULES = frozenset(
    {
        "pymatgen.analysis.phase_diagram",
        "pymatgen.core.composition",
        "pymatgen.core.entries",
        "pymatgen.core.interface",
        "pymatgen.core.ion",
        "pymatgen.core.lattice",
        "pymatgen.core.operations",
        "pymatgen.core.periodic_table",
        "pymatgen.core.sites",
        "pymatgen.core.structure",
        "pymatgen.core.surface",
        "pymatgen.core.trajectory",
        "pymatgen.electronic_structure.bandstructure",
        "pymatgen.electronic_structure.core",
        "pymatgen.electronic_structure.dos",
        "pymatgen.entries.computed_entries",
        "pymatgen.io.ase",
        "pymatgen.phonon.bandstructure",
        "pymatgen.phonon.dos",
    }
)


def read_value(
    directory: Path,
    *,
    trusted_packages: Collection[str] | None,
    classes: Mapping[str, type] | None = None,
    raw: bool = False,
) -> Any:
    """Return what a function returned, from the directory that it ran in.

    Parameters
    ----------
    directory : pathlib.Path
        Of the attempt; nothing that is a link is read.
    trusted_packages : collection of str or None
        Packages whose classes may be imported to rebuild objects; those of this kernel are used besides. None where
        the run is not trusted: then Python's own kinds, numpy, pandas, ASE and the data of pymatgen are read.
    classes : mapping of str to type, optional
        Classes by their names, where they are not those of this kernel: of a campaign that was made again.
    raw : bool
        Whether to return the JSON as it is written.

    Raises
    ------
    ValueNotReadableError
        There is none, or a part of it cannot be read here; the message says which, why, and what to do.
    """
    try:
        plain = parse(read_inside(directory, VALUE, MOST_JSON_BYTES))["value"]
        if raw:
            return plain
        return _decoder(directory, trusted_packages, classes).decode(plain)
    except FileNotFoundError as error:
        raise ValueNotReadableError(f"there is no {Path(error.filename or VALUE).name} in {directory}") from None
    except (OSError, UnsafeFileError, KeyError) as error:
        raise ValueNotReadableError(f"{VALUE} in {directory} cannot be read: {error}") from None
    except NotReadableError as error:
        way_out = "import or define in this kernel what it needs, or take the JSON by raw=True"
        if trusted_packages is None:
            way_out = (
                "the run is not trusted here, so nothing is imported for it: trust it, or take the JSON by raw=True"
            )
        raise ValueNotReadableError(f"{VALUE} in {directory}: {error}; {way_out}") from error


def read_arguments(
    arguments: Mapping[str, Any],
    sources: Mapping[str, Reference],
    fetch: Callable[[str], bytes],
    *,
    trusted_packages: Collection[str] | None,
    classes: Mapping[str, type],
) -> dict[str, Any]:
    """Return the arguments of a call by name, with references in place of what other tasks give.

    Parameters
    ----------
    arguments : mapping
        As ``args.json`` holds them. Those that have no name are a list, ``args``.
    sources : mapping of str to Reference
        By the labels that the arguments name them with.
    fetch : callable
        Returns the content of an array's file by its name.
    trusted_packages, classes
        As of `read_value`.

    Raises
    ------
    ValueNotReadableError
        A part of it cannot be read here.
    """

    def refer(said: dict[str, Any]) -> Any:
        found = sources[said["task"]]
        return Reference(found.task_id, tuple(said["at"]), found.iteration, found.run)

    decoder = Decoder(
        fetch, _allows(trusted_packages), classes, {"reference": refer}, loaded=trusted_packages is not None
    )
    try:
        named = {name: decoder.decode(plain, name) for name, plain in arguments.get("kwargs", {}).items()}
        unnamed = [decoder.decode(plain, "args") for plain in arguments.get("args", ())]
    except (OSError, UnsafeFileError) as error:
        raise ValueNotReadableError(f"the arguments of a call cannot be read: {error}") from None
    except NotReadableError as error:
        raise ValueNotReadableError(f"the arguments of a call cannot be read here: {error}") from error
    return {**named, "args": unnamed} if unnamed else named


def _decoder(directory: Path, trusted_packages: Collection[str] | None, classes: Mapping[str, type] | None) -> Decoder:
    def fetch(name: str) -> bytes:
        return read_inside(directory, f"{ARRAYS}/{name}", MOST_ARRAY_BYTES)

    return Decoder(fetch, _allows(trusted_packages), classes, loaded=trusted_packages is not None)


def _allows(trusted_packages: Collection[str] | None) -> Callable[[str], bool]:
    def allows(module: str) -> bool:
        if trusted_packages is None:
            return module in _DATA_MODULES
        return module.partition(".")[0] in {"ase", "numpy", "pymatgen", *trusted_packages}

    return allows
