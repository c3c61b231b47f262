"""Results as a database of ASE: rows that ASE reads, with where each is from, whole or not at all."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from ase.db import connect
from ase.db.row import AtomsRow
from ase.io.jsonio import encode
from hypothesis import given
from hypothesis import strategies as st

import matterstack as ms
from matterstack.errors import ExportError
from matterstack.exchange import ase_database
from matterstack.exchange.plain_structures import atoms_of_plain

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["Cu", "X", "D", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


def relax(metal: str, strain: float) -> dict[str, Any]:
    atoms = bulk(metal) * (1, 1, 2)
    atoms.set_cell(atoms.cell * strain, scale_atoms=True)
    trial = atoms.copy()
    trial.calc = EMT()
    energy = trial.get_potential_energy()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=trial.get_forces())
    return {"atoms": atoms, "energy": energy, "strain": strain, "label": "7", "start": bulk(metal)}


def as_it_is(value: Any) -> Any:
    return value


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("base")
    flow = ms.Workflow([ms.Task("note", 'echo \'{"fermi (eV)": 5.5, "Al": 1}\' > result.json')])
    flow.map(relax, {"Al": "Al", "Cu": "Cu"}, 1.01)
    run = ms.initialize_run("metals", flow, base_path=base, run_id="first")
    assert run.wait() is ms.RunStatus.COMPLETED
    return base


def test_rows_are_structures_with_where_they_are_from(base: Path, tmp_path: Path) -> None:
    renamed = ms.exchange.write_ase_database(
        tmp_path / "metals.db", ms.results("metals", base_path=base), base_path=base
    )
    assert renamed == {"energy": "result_energy", "fermi (eV)": "result_fermi__eV_", "Al": "result_Al"}
    database = connect(tmp_path / "metals.db")
    assert len(database) == 5  # two structures of each metal, and the note
    row = database.get(task_id="relax-Cu", part="atoms")
    assert (row.run_id, row.workspace, row.iteration, row.attempt) == ("first", "metals", 0, 1)
    assert row.formula == "Cu2"
    assert row.energy == pytest.approx(row.result_energy)
    assert row.forces.shape == (2, 3)
    assert row.strain == 1.01
    assert row.data["label"] == "7"  # a text that ASE would take for a number cannot be selected by
    assert row.data["origin"]["task_id"] == "relax-Cu"
    note = database.get(task_id="note")
    assert (note.natoms, note.result_fermi__eV_, note.result_Al) == (0, 5.5, 1)
    assert [row.run_id for row in database.select("Al", part="start")] == ["first"]
    assert os.listdir(tmp_path) == ["metals.db"]


def test_a_table_that_was_filtered_is_written_as_json(base: Path, tmp_path: Path) -> None:
    table = ms.results("metals", relax, base_path=base)
    ms.exchange.write_ase_database(tmp_path / "one.json", table[table.task_id == "relax-Al"], base_path=base)
    assert {row.task_id for row in connect(tmp_path / "one.json").select()} == {"relax-Al"}


def test_what_is_there_is_not_touched(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = ms.results("metals", base_path=base)
    (tmp_path / "there.db").write_text("mine")
    with pytest.raises(ExportError, match="is there already"):
        ms.exchange.write_ase_database(tmp_path / "there.db", table, base_path=base)
    write = ase_database._write

    def somebody_comes_first(*given: Any) -> None:
        write(*given)
        (tmp_path / "late.db").write_text("theirs")

    monkeypatch.setattr(ase_database, "_write", somebody_comes_first)
    with pytest.raises(ExportError, match="is there already"):
        ms.exchange.write_ase_database(tmp_path / "late.db", table, base_path=base)
    assert sorted(os.listdir(tmp_path)) == ["late.db", "there.db"]
    assert (tmp_path / "late.db").read_text() == "theirs"


def test_nothing_is_left_where_a_row_cannot_be_written(base: Path, tmp_path: Path) -> None:
    table = ms.results("metals", base_path=base)
    table.loc[1, "task_id"] = "nobody"
    with pytest.raises(ms.errors.UnknownTaskError, match="nobody"):
        ms.exchange.write_ase_database(tmp_path / "new.db", table, base_path=base)
    with pytest.raises(ExportError, match=r"no run second in the workspace metals.*base_path="):
        ms.exchange.write_ase_database(tmp_path / "new.db", table.assign(run_id="second"), base_path=base)
    with pytest.raises(ExportError, match="has no column 'run_id'"):
        ms.exchange.write_ase_database(tmp_path / "new.db", table.drop(columns="run_id"), base_path=base)
    with pytest.raises(ExportError, match=r"a \.db"):
        ms.exchange.write_ase_database(tmp_path / "new.xyz", table, base_path=base)
    with pytest.raises(ExportError, match="cannot be written"):
        ms.exchange.write_ase_database(tmp_path / "no folder" / "new.db", table, base_path=base)
    assert os.listdir(tmp_path) == []


def test_structures_that_are_plain_json_are_atoms(tmp_path: Path) -> None:
    real = json.loads((Path(__file__).parent / "data" / "atomate2" / "elastic_document.json").read_text())
    structure = real["structure"]
    centred, disordered = copy.deepcopy(structure), copy.deepcopy(structure)
    centred["sites"][0] |= {"abc": [0.5, 0.5, 0.5], "properties": {"selective_dynamics": [True, False, True]}}
    disordered["sites"][0]["species"][0]["occu"] = 0.5
    molecule: dict[str, Any] = {"@module": "pymatgen.core.structure", "@class": "Molecule", "sites": []}
    for symbol, z, magmom in (("O", 0.0, 2.0), ("C", 1.13, 0.5)):
        site = {"species": [{"element": symbol, "occu": 1}], "xyz": [0, 0, z], "properties": {"magmom": magmom}}
        molecule["sites"].append(site)
    fixed = bulk("Fe") * (3, 1, 1)
    fixed.set_constraint([FixAtoms([0]), FixCartesian([2], [False, True, False])])
    fixed.set_tags([0, 1, 2])
    fixed.set_momenta(np.arange(9.0).reshape(3, 3))
    fixed.set_initial_charges([0, 1, -1])
    written = {"@module": "pymatgen.io.ase", "@class": "MSONAtoms", "atoms_json": encode(fixed)}
    values = {"elastic": real, "itself": centred, "both": [molecule, written], "disorder": {"it": disordered}}
    flow = ms.Workflow()
    for name, value in values.items():
        flow.add(name, as_it_is, {str(number): one for number, one in enumerate(value)} if name == "both" else value)
    run = ms.initialize_run("plain", flow, base_path=tmp_path)
    assert run.wait() is ms.RunStatus.COMPLETED, run.reason
    ms.exchange.write_ase_database(tmp_path / "plain.db", ms.results("plain", base_path=tmp_path), base_path=tmp_path)
    database = connect(tmp_path / "plain.db")
    copper = database.get(task_id="elastic")
    assert (copper.formula, copper.part, copper.pbc.all()) == ("Cu", "structure", True)
    assert copper.volume == pytest.approx(real["volume"])
    assert database.get(task_id="itself").positions[0] == pytest.approx(copper.cell.sum(axis=0) / 2)
    (held,) = database.get(task_id="itself").toatoms().constraints
    assert held.todict()["kwargs"] == {"a": [0], "mask": [False, True, False]}
    assert database.get(task_id="disorder").natoms == 0
    carbon_monoxide, iron = (row.toatoms() for row in database.select(task_id="both"))
    assert carbon_monoxide.get_distance(0, 1) == 1.13
    assert list(carbon_monoxide.get_initial_magnetic_moments()) == [2.0, 0.5]
    assert not carbon_monoxide.pbc.any()
    assert iron == fixed
    assert np.allclose(iron.get_momenta(), [[0, 0, 0], [3, 4, 5], [6, 0, 8]])  # ASE holds fixed ones still
    assert [one.todict() for one in iron.constraints] == [one.todict() for one in fixed.constraints]


def test_a_lattice_of_which_a_vector_is_nothing_has_no_atoms() -> None:
    matrix = [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
    site = {"species": [{"element": "Cu", "occu": 1}], "abc": [0, 0, 0]}
    plain = {"@module": "pymatgen.core.structure", "@class": "Structure", "sites": [site]}
    assert atoms_of_plain({**plain, "lattice": {"matrix": matrix}}).get_volume() == pytest.approx(27)
    assert atoms_of_plain({**plain, "lattice": {"matrix": [*matrix[:2], [0, 0, 0]]}}) is None


@given(st.data())
def test_what_is_not_as_pymatgen_writes_it_has_no_atoms_or_sound_ones(data: st.DataObject) -> None:
    lattice = {"matrix": [[3, 0, 0], [0, 3, 0], [0, 0, 3]], "pbc": [True, True, True]}
    site = {"species": [{"element": "Cu", "occu": 1}], "abc": [0, 0, 0], "properties": {"magmom": 1.0}}
    plain: Any = {"@module": "pymatgen.core.structure", "@class": "Structure", "lattice": lattice, "sites": [site]}
    place: Any = data.draw(st.sampled_from([plain, lattice, site, site["species"][0], lattice["matrix"][0]]))
    key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else [0, 1, 2]))
    place[key] = data.draw(_JSON)
    atoms = atoms_of_plain(plain)
    if atoms is not None:
        row = AtomsRow(atoms)
        assert row.formula == "Cu" or key in ("element", "sites")
        assert np.isfinite(row.positions).all()


@given(st.dictionaries(st.text(min_size=1, max_size=6) | st.sampled_from(["energy", "id", "Al", "part"]), st.none()))
def test_any_column_has_a_name_of_its_own_that_ase_takes(columns: dict[str, None]) -> None:
    names = ase_database._names(list(columns))
    assert list(names) == list(columns)
    assert len(set(names.values())) == len(columns)
    assert all(ase_database._is_name(name) for name in names.values())


@given(st.one_of(st.floats(), st.integers(), st.text(), st.booleans(), st.just(pd.NaT), st.just(pd.NA)))
def test_any_value_is_a_pair_or_data(value: Any) -> None:
    row: dict[str, Any] = dict.fromkeys(ase_database._ORIGIN, "x") | {"given": value}
    pairs, data = ase_database._pairs(row, {"given": "given"})
    empty = pd.isna(value)
    assert ("given" in pairs) + ("given" in data) == (0 if empty else 1)
