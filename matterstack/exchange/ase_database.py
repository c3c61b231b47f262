"""Databases of ASE, made of what the tasks of runs gave."""

from __future__ import annotations

import errno
import os
import secrets
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matterstack.errors import ExportError, MissingLibraryError
from matterstack.exchange.plain_structures import atoms_of_plain
from matterstack.files import sync_directory
from matterstack.run_lifecycle import open_run
from matterstack.storage.workspaces import runs_in

if TYPE_CHECKING:
    import pandas as pd

#: What a row says of where it is from, as the columns of `matterstack.results` are called.
_ORIGIN = ("workspace", "run_id", "iteration", "task_id", "attempt", "function")
#: Which entry of a value a structure is.
_PART = "part"


def write_ase_database(
    path: str | os.PathLike[str], results: pd.DataFrame, *, base_path: str | os.PathLike[str] = "."
) -> dict[str, str]:
    r"""Write results to a database of ASE: a row per structure, with where it is from.

    Parameters
    ----------
    path : path-like
        A file that is not there yet: ``.db`` for SQLite, ``.json`` for JSON.
    results : pandas.DataFrame
        As `matterstack.results` returns it; fewer rows and more columns will do.
    base_path : path-like
        Where ``workspaces/`` is, as it was given to `matterstack.results`.

    Returns
    -------
    dict of str to str
        The columns that are called otherwise in the database, since ASE keeps their names for itself or allows no
        such name: ``{"energy": "result_energy"}``.

    Raises
    ------
    ExportError
        The file is there already, cannot be written, or the table does not say where its rows are from.
    RunNotFoundError, UnknownTaskError, ValueNotReadableError
        A row is of a run, a task or a value that cannot be read; leave it out of the table.

    Examples
    --------
    >>> import tempfile
    >>> import matterstack as ms
    >>> base = tempfile.mkdtemp()
    >>> flow = ms.Workflow([ms.Task("relax", "echo '{\"energy\": -3.7}' > result.json")])
    >>> _ = ms.initialize_run("metals", flow, base_path=base).wait()
    >>> ms.exchange.write_ase_database(f"{base}/metals.db", ms.results("metals", base_path=base), base_path=base)
    {'energy': 'result_energy'}
    """
    target = Path(path).absolute()
    if target.suffix not in (".db", ".json"):
        raise ExportError(f"{target.name}: a database of ASE is a .db (SQLite) or a .json")
    if os.path.lexists(target):
        raise _taken(target)
    missing = [name for name in _ORIGIN if name not in getattr(results, "columns", ())]
    if missing:
        raise ExportError(f"the table has no column {missing[0]!r}: give what ms.results(...) returns")
    names = _names([str(name) for name in results.columns if name not in _ORIGIN])
    partial = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.partial{target.suffix}")
    try:
        _write(partial, results, names, base_path)
        os.link(partial, target)
        sync_directory(target.parent)
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise _taken(target) from None
        if error.filename is None or partial.name not in str(error.filename):
            raise
        raise ExportError(f"{target} cannot be written ({error.strerror}); nothing was") from None
    finally:
        partial.unlink(missing_ok=True)
    return {said: name for said, name in names.items() if said != name}


def _taken(target: Path) -> ExportError:
    return ExportError(f"{target} is there already, and is left as it is: give another name, or remove it")


def _write(path: Path, results: pd.DataFrame, names: Mapping[str, str], base_path: str | os.PathLike[str]) -> None:
    try:
        import ase.db.core
    except ImportError as error:
        raise MissingLibraryError("a database of ASE needs ase: pip install ase") from error
    with open(path, "xb"):  # raises where it cannot be written, before anything is read
        pass
    path.unlink()
    core: Any = ase.db.core
    database = core.connect(str(path), use_lock_file=False)
    with database:
        for row, parts in _rows(results, base_path):
            pairs, data = _pairs(row, names)
            for part, atoms in parts:
                said = pairs | ({_PART: part} if part and _is_pair(part) else {})
                database.write(atoms, key_value_pairs=said, data=data | ({_PART: part} if part else {}))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rows(
    results: pd.DataFrame, base_path: str | os.PathLike[str]
) -> Iterator[tuple[dict[str, Any], list[tuple[str, Any]]]]:
    """Yield each row of the table, and the structures that its task gave, by their names."""
    known: dict[str, dict[str, Path]] = {}
    for (workspace, run_id), of_run in results.groupby(["workspace", "run_id"], sort=False):
        place = str(workspace)
        if place not in known:
            known[place] = {one.path.name: one.path for one in runs_in(place, base_path)}
        path = known[place].get(str(run_id))
        if path is None:
            raise ExportError(
                f"there is no run {run_id} in the workspace {workspace} of {Path(base_path).absolute()}: base_path= "
                "says where workspaces/ is"
            )
        run = open_run(path)
        for row in of_run.to_dict("records"):
            value = run.value(str(row["task_id"]), iteration=int(row["iteration"]), attempt=int(row["attempt"]))
            yield {str(name): said for name, said in row.items()}, _structures(value)


def _structures(value: Any) -> list[tuple[str, Any]]:
    """Return the structures that a value is, or has at its top; no atoms where there is none."""
    named = {"": value}
    if isinstance(value, Mapping) and _atoms(value) is None:
        named = {str(key): part for key, part in value.items()}
    found = [(name, atoms) for name, part in named.items() if (atoms := _atoms(part)) is not None]
    return found or [("", None)]


def _atoms(value: Any) -> Any:
    from ase import Atoms

    if isinstance(value, Atoms):
        return value
    if isinstance(value, Mapping):
        return atoms_of_plain(value)
    # Structures and molecules of pymatgen. In disorder there are no atoms.
    make = getattr(type(value), "to_ase_atoms", None)
    return make(value) if make is not None and value.is_ordered else None


# -- what is said of a row -------------------------------------------------------------------------


def _names(columns: list[str]) -> dict[str, str]:
    """Return what each column is called in the database."""
    taken = {*_ORIGIN, _PART, *(name for name in columns if _is_name(name))}
    names = {}
    for column in columns:
        name = column
        if not _is_name(column):
            stem = "result_" + "".join(sign if sign.isascii() and sign.isalnum() else "_" for sign in column)
            name, number = stem, 1
            while name in taken:
                number += 1
                name = f"{stem}_{number}"
            taken.add(name)
        names[column] = name
    return names


def _is_name(name: str) -> bool:
    # A name that is a formula would be taken for one when rows are selected: of that ASE warns.
    return name not in (*_ORIGIN, _PART) and _accepts({name: 0.5})


def _is_pair(value: Any) -> bool:
    """Return whether rows can be selected by a value: a finite number, or a text that looks like none."""
    if isinstance(value, int | float):
        return -(2**63) < value < 2**63 and _accepts({"value": value})
    return isinstance(value, str) and _accepts({"value": value})


def _accepts(pairs: Mapping[str, Any]) -> bool:
    import ase.db.core

    core: Any = ase.db.core
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            core.check(pairs)
        except (ValueError, UserWarning):
            return False
    return True


def _pairs(row: Mapping[str, Any], names: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what rows are selected by, and all else that a row says."""
    pairs: dict[str, Any] = {}
    data: dict[str, Any] = {"origin": {name: _plain(row[name]) for name in _ORIGIN}}
    for column, value in row.items():
        plain = _plain(value)
        if plain is None:
            continue
        if _is_pair(plain):
            pairs[names.get(column, column)] = plain
        elif column not in _ORIGIN:
            data[names.get(column, column)] = plain
    return pairs, data


def _plain(value: Any) -> Any:
    """Return a cell of a table as JSON has it; None where it is empty."""
    import pandas as pd

    if isinstance(value, str | bool | int | list | dict | None):
        return value
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    plain = value.item() if hasattr(value, "item") else value
    return plain if isinstance(plain, str | bool | int | float) else str(plain)
