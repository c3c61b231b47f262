"""Structures and trajectories from values, objects and files, as a page draws them."""

from __future__ import annotations

import base64
import json
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.io import write
from ase.io.jsonio import encode
from hypothesis import given
from hypothesis import strategies as st

import matterstack as ms
from matterstack.errors import StructureError, UnsafeFileError
from matterstack.functions import codec
from matterstack.notebook import structure_view
from matterstack.notebook.structure_picture import picture_html, structure_svg
from matterstack.notebook.structure_view import show_structure
from matterstack.notebook.structures import (
    AT_ONCE,
    Frames,
    frames_of,
    frames_of_file,
    frames_of_value,
    structure_format,
)

SALT = bulk("NaCl", "rocksalt", a=5.64, cubic=True)


def moved(count: int) -> list[Atoms]:
    frames = []
    for number in range(count):
        frames.append(SALT.copy())
        frames[-1].positions += number
    return frames


def positions_of(data: dict[str, Any]) -> Any:
    return np.frombuffer(base64.b64decode(data["positions"]), "<f4").reshape(-1, 3)


def same(found: Frames | None, atoms: Atoms, frame: int = 0) -> bool:
    assert found is not None
    one = found.frames[frame]
    cell = np.zeros((3, 3)) if one.cell is None else one.cell
    return (
        one.numbers.tolist() == atoms.numbers.tolist()
        and np.allclose(one.positions, atoms.positions, atol=1e-4)
        and np.allclose(cell, atoms.cell.array, atol=1e-4)
        and list(one.pbc) == atoms.pbc.tolist()
    )


def wait_for(done: Callable[[], bool]) -> bool:
    """Wait for a thread of the view to end, for a minute at most."""
    for thread in threading.enumerate():
        if thread.name == "matterstack-structure":
            thread.join(60)
    return done()


def written(value: Any) -> tuple[Any, dict[str, bytes]]:
    """Return a value as a function leaves it, and its large arrays."""
    encoder = codec.Encoder()
    return json.loads(json.dumps(encoder.encode(value))), encoder.arrays


@pytest.mark.parametrize("name", ["a.traj", "a.extxyz", "a.XYZ", "XDATCAR"])
def test_a_trajectory_is_read_from_a_file(tmp_path: Path, name: str) -> None:
    form = {"a.XYZ": "extxyz", "XDATCAR": "vasp-xdatcar"}.get(name)
    write(tmp_path / name, moved(3), format=form)
    found = frames_of_file(tmp_path, name)
    assert (found.total, found.step) == (3, 1)
    first, last = found.frames[0], found.frames[2]
    assert first.numbers.tolist() == SALT.numbers.tolist()
    scaled = np.linalg.solve(SALT.cell.array.T, (last.positions - first.positions).T).T
    assert np.allclose((scaled - 2 / 5.64 + 0.5) % 1, 0.5, atol=1e-4)  # some wrap what has left the cell


@pytest.mark.parametrize("name", ["a.cif", "POSCAR", "CONTCAR.relaxed", "a.vasp", "out/a.cif"])
def test_a_structure_is_read_from_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write(tmp_path / name, SALT, format="cif" if name.endswith("cif") else "vasp")
    assert sorted(frames_of_file(tmp_path, name).frames[0].numbers.tolist()) == sorted(SALT.numbers.tolist())


def test_of_a_long_trajectory_every_so_many_frames_are_read(tmp_path: Path) -> None:
    helium = "1\n\nHe 0 0 {}\n"
    (tmp_path / "long.xyz").write_text("".join(helium.format(number) for number in range(10_000)))
    found = frames_of_file(tmp_path, "long.xyz")
    assert (found.total, found.step, len(found.frames)) == (10_000, 50, 200)
    assert [float(frame.positions[0, 2]) for frame in found.frames[:3]] == [0, 50, 100]
    assert len(frames_of([Atoms("He", positions=[[0, 0, z]]) for z in range(1000)]).frames) == 200


def test_a_file_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("3\n\nH 0 0 0\n")
    (tmp_path / "a.cif").write_text("data_x\n_cell_length_a 3\n")
    (tmp_path / "a.json").write_text('{"energy_eV": 1}')
    (tmp_path / "nan.xyz").write_text("1\n\nH 0 0 nan\n")
    (tmp_path / "empty.xyz").write_text("")
    for name in ("a.xyz", "a.cif", "a.json", "nan.xyz", "empty.xyz", "notes.txt"):
        with pytest.raises(StructureError, match=name):
            frames_of_file(tmp_path, name)
    with pytest.raises(FileNotFoundError):
        frames_of_file(tmp_path, "missing.xyz")
    os.mkfifo(tmp_path / "pipe.xyz")
    (tmp_path / "link.xyz").symlink_to(tmp_path / "a.xyz")
    for name in ("pipe.xyz", "link.xyz"):
        with pytest.raises(UnsafeFileError, match=name):
            frames_of_file(tmp_path, name)


def test_what_takes_too_long_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "endless.xyz").write_text("1\n\nH 0 0 0\n")
    with pytest.raises(StructureError, match=r"endless\.xyz was not read in 0 s"):
        frames_of_file(tmp_path, "endless.xyz", most_s=0.01)


class Trap:
    """What makes a file as soon as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_reading_unpickles_nothing(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    for name in ("old.traj", "a.xyz", "POSCAR"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap(sprung)))
        with pytest.raises(StructureError, match=name):
            frames_of_file(tmp_path, name)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists(), "the trap is none"


def test_of_a_trajectory_constraints_and_results_are_left_alone(tmp_path: Path) -> None:
    atoms = SALT.copy()
    atoms.set_constraint(FixAtoms([0]))
    write(tmp_path / "a.traj", atoms)
    content = (tmp_path / "a.traj").read_bytes()
    (tmp_path / "b.traj").write_bytes(content.replace(b"FixAtoms", b"FixNoone"))  # which ASE does not know
    assert same(frames_of_file(tmp_path, "b.traj"), SALT)


def test_a_structure_is_found_in_values() -> None:
    value, arrays = written({"steps": 3, "relaxed": {"atoms": SALT}})
    assert same(frames_of_value(value), SALT)
    assert not arrays
    value, _ = written({"path": moved(3)})
    found = frames_of_value(value)
    assert same(found, moved(3)[2], frame=2)
    assert same(frames_of_value({"as JSON of ASE": encode(molecule("H2O"))}), molecule("H2O"))
    assert same(frames_of_value(json.loads(encode(SALT))), SALT)
    large = SALT * (9, 9, 9)
    value, arrays = written(large)
    assert arrays, "it is no large one"
    assert same(frames_of_value(value, arrays.__getitem__), large)
    assert frames_of_value(value) is None


def test_structures_and_molecules_of_pymatgen() -> None:
    sites = [
        {"species": [{"element": "Li", "occu": 0.4}, {"element": "Na", "occu": 0.6}], "abc": [0, 0, 0]},
        {"species": [{"element": "Cl", "oxidation_state": -1, "occu": 1}], "abc": [0.5, 0.5, 0.5]},
    ]
    lattice = {"matrix": [[4, 0, 0], [0, 4, 0], [0, 0, 4]], "pbc": [True, True, False]}
    crystal = {"@class": "Structure", "lattice": lattice, "sites": sites}
    expected = Atoms("NaCl", positions=[[0, 0, 0], [2, 2, 2]], cell=[4, 4, 4], pbc=[True, True, False])
    assert same(frames_of_value({"@": "msonable", "value": crystal}), expected)
    at = [{"species": [{"element": "H", "occu": 1}], "xyz": [0, 0, z]} for z in (0, 0.74)]
    assert same(frames_of_value({"@class": "Molecule", "sites": at}), Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]]))


def test_a_page_gets_the_first_atoms_until_it_asks_for_more() -> None:
    large = SALT * (5, 5, 5)
    found = frames_of([large, large])
    data = json.loads(json.dumps(found.as_data()))
    assert data["counts"] == [AT_ONCE, AT_ONCE]
    assert data["atoms"] == 1000
    assert np.allclose(positions_of(data)[AT_ONCE:], large.positions[:AT_ONCE], atol=1e-4)
    assert data["elements"]["11"]["symbol"] == "Na"
    assert len(positions_of(found.as_data(20_000))) == 2000


def test_what_is_no_structure_is_refused() -> None:
    for wrong in (3, [], {"a": 1}, [SALT, 3], Atoms(), None):
        with pytest.raises(StructureError, match="no structure"):
            frames_of(wrong)


def test_frames_may_differ_in_their_atoms() -> None:
    found = frames_of([molecule("H2O"), SALT])
    assert found.as_data()["counts"] == [3, 8]
    assert same(found, molecule("H2O"))
    assert same(found, SALT, frame=1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["@", "@class", "numbers", "positions", "cell", "sites", "arrays"]), inner)
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from(["atoms", "Structure", "array"]))
def test_whatever_a_value_is_nothing_is_raised(data: Any, named: str) -> None:
    for value in (data, {"@": named, "numbers": data, "arrays": data}, {"@class": named, "sites": data}):
        found = frames_of_value(value)
        if found is not None:
            assert picture_html(found)


def test_a_picture_reads_on_light_and_dark_and_takes_no_markup() -> None:
    picture = structure_svg({"numbers": [11, 17], "positions": [[0, 0, 0], [0, 0, 2.8]], "name": "<script>"})
    svg = base64.b64decode(picture.partition("base64,")[2].rstrip("'>")).decode()
    assert "alt='NaCl'" in picture
    assert svg.count("<circle") == 2
    assert svg.count("<line") == 1  # a bond, and no cell
    assert "#808080" in svg
    assert structure_svg({"numbers": [11] * 401, "positions": [[0, 0, 0]] * 401}).startswith("<p>a structure of 401")


def test_metals_in_an_oxide_are_not_joined() -> None:
    def bonds(symbols: str, *positions: tuple[float, float, float]) -> int:
        picture = picture_html(frames_of(Atoms(symbols, positions=positions)))
        return base64.b64decode(picture.partition("base64,")[2].rstrip("'>")).count(b"<line")

    assert bonds("Co2", (0, 0, 0), (2.8, 0, 0)) == 1
    assert bonds("Co2O", (0, 0, 0), (2.8, 0, 0), (1.4, 1.4, 0)) == 2


def test_names_of_files_tell_what_they_are() -> None:
    assert structure_format("run/POSCAR_1") == "vasp"
    assert structure_format("a.TRAJ") == "traj"
    assert structure_format("a.db") is None


def test_a_widget_sends_all_atoms_when_a_page_asks(tmp_path: Path) -> None:
    view = show_structure(SALT * (5, 5, 5))
    assert view.data["counts"] == [AT_ONCE]
    view._heard(view, {"all": "yes"}, [])
    view._heard(view, "all", [])
    assert view.data["counts"] == [AT_ONCE]
    view._heard(view, {"all": True}, [])
    assert view.data["counts"] == [1000]
    assert "too large to be drawn here" in view.twin_html()


def test_a_widget_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure_view, "_SOON_S", 60.0)  # however busy this machine is
    write(tmp_path / "<b>.traj", moved(3))
    view = show_structure(str(tmp_path / "<b>.traj"))
    assert wait_for(lambda: not view.note)
    assert view.twin_text() == "<b>.traj: 8 atoms, 3 frames"
    bundle = view._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "&lt;b&gt;.traj" in data["text/html"]
    assert "<img alt='Na4Cl4'" in data["text/html"]
    (tmp_path / "bad.cif").write_text("data_x\n")
    for path, error in (("bad.cif", StructureError), ("notes.txt", FileNotFoundError), ("<b>.txt", StructureError)):
        if error is StructureError:
            (tmp_path / path).touch()
        with pytest.raises(error):
            show_structure(tmp_path / path)


def test_the_kernel_goes_on_while_a_large_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure_view, "_SOON_S", 0.0)
    write(tmp_path / "a.traj", SALT)
    view = show_structure(tmp_path / "a.traj")
    assert view.note == "a.traj is being read …"
    assert "is being read" in view.twin_text()
    assert wait_for(lambda: not view.note)
    assert view.data["counts"] == [8]
    (tmp_path / "bad.cif").write_text("data_x\n")
    view = show_structure(tmp_path / "bad.cif")
    assert wait_for(lambda: "being read" not in view.note)
    assert "bad.cif" in view.note


def relaxed() -> Atoms:
    return SALT


def test_a_panel_is_answered_with_its_structure(tmp_path: Path) -> None:
    flow = ms.Workflow()
    flow.add("salt", relaxed)
    flow.add_task(ms.Task("none", "true"))
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    run.wait(timeout_s=180)
    for view in (run.dag(), run.table()):
        sent: list[Any] = []
        view.send = lambda message, buffers=None, sent=sent: sent.append(message)
        view.selected = "0.salt"
        assert "data-structure" in view.panel
        for task in ("0.salt", "0.none", "strange", 3):
            view._heard(view, {"structure": task}, [])
        assert [message["structure"] for message in sent] == ["0.salt", "0.none", "strange"]
        assert sent[0]["data"]["counts"] == [8]
        assert sent[1]["data"] is sent[2]["data"] is None
