"""Values as JSON and back: exactly or refused, and a stranger's JSON runs nothing."""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import datetime
import enum
import hashlib
import io
import json
import math
import pathlib
import struct
import sys
import textwrap
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.cell import Cell as AseCell
from ase.constraints import (
    ExternalForce,
    FixAtoms,
    FixBondLengths,
    FixCartesian,
    FixCartesianParametricRelations,
    FixCom,
    FixConstraint,
    FixedLine,
    FixedMode,
    FixedPlane,
    FixInternals,
    FixLinearTriatomic,
    FixScaled,
    FixSubsetCom,
    Hookean,
    MirrorForce,
    MirrorTorque,
)
from ase.spacegroup import crystal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from matterstack.errors import ValueNotReadableError
from matterstack.functions import codec, values
from matterstack.functions.codec import Decoder, Encoder, NotReadableError, NotWritableError, scalars

# -- classes of a user's own ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Sample:
    mass_g: float
    phases: tuple[str, ...] = ()
    density: Any = dataclasses.field(init=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "density", [self.mass_g])
        object.__setattr__(self, "made", True)


@dataclasses.dataclass
class Slotted:
    __slots__ = ("x",)
    x: Any


class Phase(enum.Enum):
    FCC = "fcc"
    BCC = "bcc"


class Level(enum.IntEnum):
    LOW = 1


class Wanted(enum.Flag):
    ENERGY = 1
    FORCES = 2


Point = collections.namedtuple("Point", "x y")


class Bonded(Atoms):  # type: ignore[misc]
    pass


class Potential:
    def __init__(self, cutoff: float) -> None:
        self.cutoff = cutoff


class Text(str):
    pass


# -- there and back ---------------------------------------------------------------------------------


def written(value: Any) -> tuple[Any, Encoder]:
    encoder = Encoder()
    return json.loads(json.dumps(encoder.encode(value), allow_nan=False)), encoder


def nothing_allowed(module: str) -> bool:
    return False


def there_and_back(value: Any) -> Any:
    plain, encoder = written(value)
    found = Decoder(encoder.arrays.__getitem__, nothing_allowed, loaded=True).decode(plain)
    assert_same(found, value)
    return found


def in_order(value: Any) -> Any:
    """Return the items of a set as a list: a nan is not equal to itself."""
    return sorted(value, key=lambda item: json.dumps(written(item)[0])) if isinstance(value, set | frozenset) else value


def assert_same(found: Any, value: Any) -> None:
    """Equal, of the same types, at every depth."""
    assert type(found) is type(value)
    found, value = in_order(found), in_order(value)
    if isinstance(value, float):
        assert struct.pack(">d", found) == struct.pack(">d", value)
    elif isinstance(value, complex):
        assert_same(found.real, value.real)
        assert_same(found.imag, value.imag)
    elif isinstance(value, np.ndarray | np.generic):
        assert (found.dtype, found.shape, found.tobytes()) == (value.dtype, value.shape, value.tobytes())
        assert not value.flags.forc or found.flags.fnc == value.flags.fnc
    elif isinstance(value, dict):
        assert len(found) == len(value)
        for (key, item), (other, its) in zip(found.items(), value.items(), strict=True):
            assert_same(key, other)
            assert_same(item, its)
    elif isinstance(value, list | tuple):
        assert len(found) == len(value)
        for item, other in zip(found, value, strict=True):
            assert_same(item, other)
    elif isinstance(value, Sample | Slotted):
        for name in (*vars(value),) if isinstance(value, Sample) else ("x",):
            assert_same(getattr(found, name), getattr(value, name))
    elif isinstance(value, pd.Series):
        pd.testing.assert_series_equal(found, value, check_exact=True, check_freq=True, check_index_type="equiv")
    elif isinstance(value, pd.DataFrame):
        pd.testing.assert_frame_equal(found, value, check_exact=True, check_freq=True, check_index_type="equiv")
    elif isinstance(value, pd.Index):
        pd.testing.assert_index_equal(found, value, exact=True)
        assert getattr(found, "freq", None) == getattr(value, "freq", None)
    elif isinstance(value, datetime.datetime | datetime.time):
        assert (found, found.tzinfo, found.fold) == (value, value.tzinfo, value.fold)
    elif not isinstance(value, Atoms | AseCell):
        assert found is value or found == value


ZONES = st.one_of(
    st.none(),
    st.just(datetime.UTC),
    st.sampled_from(["Europe/Berlin", "America/St_Johns"]).map(zoneinfo.ZoneInfo),
    st.integers(-86399, 86399).map(lambda s: datetime.timezone(datetime.timedelta(seconds=s))),
)
TEXTS = st.text(st.characters(), max_size=8)  # with halves of surrogate pairs, and nulls
WHOLE = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)  # pandas with pyarrow makes no table of a half
NUMBERS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 6000).map(lambda n: 7**n),
    st.floats(),
    st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack(">d", bits.to_bytes(8, "big"))[0]),
)
KEYS = st.recursive(NUMBERS | TEXTS, lambda inner: st.tuples(inner, inner), max_leaves=4)
ARRAYS = st.one_of(
    hnp.arrays(
        st.one_of(
            hnp.scalar_dtypes(),
            hnp.byte_string_dtypes(max_len=4),
            hnp.unicode_string_dtypes(max_len=4),
            hnp.array_dtypes(max_size=3),
        ),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    ).map(lambda array: array),
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=3, max_side=4)).map(np.asfortranarray),
)
LEAVES = st.one_of(
    NUMBERS,
    TEXTS,
    st.complex_numbers(allow_nan=True),
    st.binary(max_size=20),
    st.dates(),
    st.datetimes(timezones=ZONES),
    st.times(),
    st.timedeltas(),
    st.builds(pathlib.PurePosixPath, st.text("ab/.", max_size=5)),
    st.sampled_from([*Phase, Level.LOW, Wanted.ENERGY | Wanted.FORCES, Wanted(0), pathlib.Path("/tmp/x"), pd.NaT]),
    st.builds(Sample, st.floats(), st.tuples(TEXTS)),
    ARRAYS,
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(TEXTS, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=3),
        st.dictionaries(st.sampled_from(["@", "@module", "a"]), inner),
        st.dictionaries(KEYS, inner, max_size=3).map(collections.OrderedDict),
        st.dictionaries(KEYS, inner, max_size=3).map(lambda d: collections.defaultdict(list, d)),
        st.frozensets(KEYS, max_size=3),
        st.sets(st.integers() | TEXTS, max_size=3),
        st.builds(Slotted, inner),
        st.builds(Point, inner, inner),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_values_come_back_exactly_or_are_refused(value: Any) -> None:
    try:
        plain, _ = written(value)
    except NotWritableError:
        return
    again, _ = written(there_and_back(value))
    assert again == plain


@settings(max_examples=100, deadline=None)
@given(ARRAYS)
def test_arrays_of_numbers_are_never_refused(array: Any) -> None:
    if array.dtype.itemsize and array.dtype.names is None:
        there_and_back(array)


def test_small_arrays_can_be_read_by_a_person() -> None:
    assert written(np.array([[1.5, np.nan], [-np.inf, -0.0]]))[0]["values"] == [[1.5, "nan"], ["-inf", -0.0]]
    assert written(np.array([1 + 2j]))[0]["values"] == [[1.0, 2.0]]
    assert written(np.float32(0.5))[0] == {"@": "scalar", "dtype": "<f4", "values": 0.5}


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_become_files_by_their_sum(order: Any) -> None:
    array = np.asarray(np.arange(20_002, dtype=">f8").reshape(2, -1), order=order)
    plain, encoder = written({"a": array, "b": array[:, ::2]})
    name = plain["a"]["file"]
    assert name == f"{hashlib.sha256(encoder.arrays[name]).hexdigest()}.npy"
    assert "values" in written(array[:1, :10_000])[0]
    there_and_back({"a": array})
    there_and_back(b"x" * 300_000)


def test_objects_keep_what_their_init_would_not_give() -> None:
    sample = Sample(2.0)
    object.__setattr__(sample, "density", [1, 2])
    found = there_and_back(sample)
    assert (found.density, found.made) == ([1, 2], True)
    assert there_and_back(Point(1, [2])).x == 1
    assert there_and_back(Level.LOW) is Level.LOW
    assert there_and_back(collections.Counter("aab"))["a"] == 2
    assert there_and_back(collections.defaultdict(list))["new"] == []


def test_equal_sets_are_equal_bytes() -> None:
    names = [f"site{n}" for n in range(50)]
    assert written(set(names))[0] == written({*names[25:], *names})[0]


# -- pandas -----------------------------------------------------------------------------------------

DAYS = pd.date_range("2020", periods=3, freq="D")
SERIES: list[Any] = [
    pd.Series([1, 2, 3], name="n"),
    pd.Series([1.5, None, math.inf], dtype="float32"),
    pd.Series(["a", None]),
    pd.Series(["a", None, (1, 2), {"x": [1]}], dtype=object),
    pd.Series([1, None], dtype="Int64"),
    pd.Series([1, None], dtype="UInt8"),
    pd.Series([True, None], dtype="boolean"),
    pd.Series([1.5, None], dtype="Float64"),
    pd.Series(["a", None], dtype="string"),
    pd.Series(pd.Categorical(["a", "b", None], categories=["b", "a", "c"], ordered=True)),
    pd.Series(pd.Categorical([1.5, 2.5])),
    pd.Series(DAYS.tz_localize("Europe/Berlin")),
    pd.Series(DAYS, index=DAYS),
    pd.Series(pd.to_datetime(["2020-01-01", None]).as_unit("ms")),
    pd.Series(pd.to_timedelta([1, None], unit="s")),
    pd.Series(pd.period_range("2020", periods=3, freq="M")),
    pd.Series(pd.cut([1, 2, 3], 2)),
    pd.Series(pd.interval_range(0, 3)),
    pd.Series([pd.Timestamp("2020", tz="UTC"), pd.NaT, pd.NA, pd.Timedelta("1D")], dtype=object),
    pd.Series(dtype=object),
    pd.Series([1 + 2j]),
    pd.Series(range(20_000), name=("a", 1)),
    pd.Series(np.array([1, 2], dtype=">i4")),
]
FRAMES: list[Any] = [
    pd.DataFrame(),
    pd.DataFrame(index=[1, 2]),
    pd.DataFrame(columns=["a"]),
    pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [math.nan, 1.5]}, index=["u", "v"]),
    pd.DataFrame([[1, 2.5]], columns=["a", "a"]),
    pd.DataFrame({"x": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", None)], names=["k", None])),
    pd.DataFrame({("a", 1): [1], ("a", 2): ["x"]}),
    pd.DataFrame({str(n): series[:1].reset_index(drop=True) for n, series in enumerate(SERIES[:18])}),
]
INDEXES: list[Any] = [
    pd.RangeIndex(5, name="n"),
    pd.Index([1.5], name=("a", 1)),
    pd.Index(["a"], dtype=object),
    pd.Index([True, False]),
    DAYS,
    pd.date_range("2020", periods=3, freq="W-WED", tz="UTC"),
    pd.CategoricalIndex(["a", "b"]),
    pd.Timestamp("2020-10-25 00:30", tz="UTC").tz_convert(zoneinfo.ZoneInfo("Europe/Berlin")),
    pd.Timestamp(5),
    pd.Timedelta(3, "ms"),
    pd.NaT,
    pd.NA,
]


@pytest.mark.parametrize("value", [*SERIES, *FRAMES, *INDEXES], ids=lambda value: type(value).__name__)
def test_what_pandas_holds_comes_back_exactly(value: Any) -> None:
    there_and_back({"table": [value]})


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(), st.integers(-(2**63), 2**63 - 1), WHOLE, st.datetimes()), max_size=4), WHOLE)
def test_tables_of_any_content_come_back_exactly(rows: list[Any], name: str) -> None:
    frame = pd.DataFrame(rows, columns=[name, "n", "text", "when"]).astype({"text": object})
    there_and_back(frame)
    there_and_back(frame.set_index("when"))


# -- ASE --------------------------------------------------------------------------------------------


def every_constraint() -> list[Any]:
    return [
        FixAtoms([0]),
        FixedLine(1, [1, 2, 3.0]),
        FixedPlane([1], [1, 2, 4.0]),
        FixedMode(np.arange(12.0)),
        FixCartesian([0, 1], [True, False, True]),
        FixScaled([1]),
        FixCom(),
        FixSubsetCom([1, 2]),
        FixBondLengths([[0, 1]], tolerance=1e-9, bondlengths=[2.5]),
        FixLinearTriatomic([(0, 1, 2)]),
        FixInternals(bonds=[[2.5, [0, 1]]], bondcombos=[[1.0, [[0, 1, 1.0], [1, 2, -1.0]]]]),
        Hookean(0, 1, 2.0, 3.0),
        Hookean(0, (1, 2, 3.0), 2.0, 1.0),
        Hookean(0, (1, 2, 3.0, 4.0), 2.0),
        ExternalForce(0, 1, 0.3),
        MirrorForce(0, 1),
        MirrorTorque(0, 1, 2, 3),
        FixCartesianParametricRelations.from_expressions([0], ["x", "y"], ["x", "y", "x+y/2"]),
    ]


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.01, seed=1)
    atoms.set_tags([1, 2, 3, 4])
    atoms.set_initial_magnetic_moments([1.0, 0, 0, 0])
    atoms.set_array("labels", np.array(["a", "b", "c", "d"]))
    atoms.arrays["single"] = np.arange(4, dtype=np.float32)
    atoms.set_celldisp([0.1, 0.2, 0.3])
    atoms.info.update({"note": {1: (2, np.arange(3))}, "path": pathlib.Path("/x"), "@": None})
    atoms.set_pbc([True, False, True])
    atoms.calc = EMT()
    return atoms


def assert_same_atoms(found: Atoms, atoms: Atoms) -> None:
    assert type(found) is type(atoms)
    assert_same(dict(sorted(found.arrays.items())), dict(sorted(atoms.arrays.items())))
    assert_same(found.info, atoms.info)
    for one, other in [(found.cell.array, atoms.cell.array), (found.pbc, atoms.pbc)]:
        assert_same(one, other)
    assert_same(found.get_celldisp(), atoms.get_celldisp())
    for one, other in zip(found.constraints, atoms.constraints, strict=True):
        assert type(one) is type(other)
        assert written(vars(one))[0] == written(vars(other))[0]


def test_atoms_come_back_with_all_that_they_hold() -> None:
    atoms = copper()
    atoms.set_constraint(every_constraint())
    atoms.get_forces(apply_constraint=False)
    atoms.calc.results["of_my_own"] = {"gap_eV": np.float64(1.5)}
    found = there_and_back(atoms)
    assert_same_atoms(found, atoms)
    assert found.calc.name == "emt"
    assert_same(found.calc.results, atoms.calc.results)
    assert found.get_potential_energy(apply_constraint=False) == atoms.get_potential_energy(apply_constraint=False)


def test_constraints_that_have_worked_come_back() -> None:
    atoms = molecule("H2O")
    atoms.set_constraint(FixInternals(bonds=[[0.97, [0, 1]]]))
    atoms.set_positions(atoms.positions + 0.01)
    found = there_and_back(atoms)
    assert found.constraints[0].todict() == atoms.constraints[0].todict()


def test_results_of_atoms_that_have_moved_since_are_not_those_of_the_atoms() -> None:
    atoms = copper()
    atoms.get_potential_energy()
    atoms.positions[0] += 0.1
    assert there_and_back(atoms).calc is None
    atoms.calc = None
    assert there_and_back(atoms).calc is None


def test_what_else_of_ase_comes_back() -> None:
    salt = crystal(["Na", "Cl"], [(0, 0, 0), (0.5, 0.5, 0.5)], spacegroup=225, cellpar=[5.64] * 3 + [90] * 3)
    found = there_and_back(salt)
    assert found.info["spacegroup"] == salt.info["spacegroup"]
    assert np.array_equal(there_and_back(salt.cell).array, salt.cell.array)
    assert isinstance(salt.cell, AseCell)
    assert len(there_and_back(Atoms())) == 0
    assert_same_atoms(there_and_back(Bonded("H")), Bonded("H"))


# -- as_dict and from_dict --------------------------------------------------------------------------

PACKAGE = '''
import json, importlib

RAN = []

class Serial:
    """What monty does behind pymatgen's from_dict: it imports and calls what it is told to."""

    def __init__(self, **held):
        self.held = held

    def as_dict(self):
        plain = lambda x: x.as_dict() if isinstance(x, Serial) else x
        held = {k: plain(v) for k, v in self.held.items()}
        return {"@module": type(self).__module__, "@class": type(self).__name__, **held}

    @classmethod
    def from_dict(cls, d):
        def made(x):
            if isinstance(x, list):
                return [made(y) for y in x]
            if not isinstance(x, dict):
                return x
            if "@module" in x and "@callable" in x:
                return getattr(importlib.import_module(x["@module"]), x["@callable"])
            if "@module" in x:
                RAN.append(x["@module"])
                return getattr(importlib.import_module(x["@module"]), x["@class"]).from_dict(x)
            return {k: made(v) for k, v in x.items()}
        return cls(**{k: made(v) for k, v in d.items() if not k.startswith("@")})

class Lossy(Serial):
    @classmethod
    def from_dict(cls, d):
        return cls()
'''


@pytest.fixture
def crystals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "crystals.py").write_text(PACKAGE)
    (tmp_path / "intruder.py").write_text("raise SystemExit('intruder ran')")
    monkeypatch.syspath_prepend(tmp_path)
    import importlib

    yield importlib.import_module("crystals")
    sys.modules.pop("crystals", None)


def only_crystals(module: str) -> bool:
    return module == "crystals"


def test_as_dict_comes_back_where_its_package_is_allowed(crystals: Any) -> None:
    value = crystals.Serial(a=1.5, inner=crystals.Serial(b=[1, (2, 3)], c=np.arange(3)))
    plain, encoder = written(value)
    found = Decoder({}.__getitem__, only_crystals).decode(plain)
    assert type(found.held["inner"]) is crystals.Serial
    assert_same(found.held["inner"].held["b"], [1, (2, 3)])
    assert "crystals:Serial" in encoder.classes
    with pytest.raises(NotReadableError, match="crystals may not be imported"):
        Decoder({}.__getitem__, nothing_allowed).decode(plain)


@pytest.mark.parametrize("held", [{"x": 1}, {"x": [print]}, {"x": pd.Series([1])}, {"x": Atoms()}])
def test_as_dict_that_does_not_come_back_is_refused(crystals: Any, held: Any) -> None:
    with pytest.raises(NotWritableError, match=r"value"):
        written(crystals.Lossy(**held))
    if held["x"].__class__ is not int:
        with pytest.raises(NotWritableError, match=r"value"):
            written(crystals.Serial(**held))


# -- what cannot be written -------------------------------------------------------------------------


def cycle() -> Any:
    value: list[Any] = []
    value.append({"again": value})
    return value


def deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {(): value}
    return value


class NotARegisteredZone(datetime.tzinfo):
    def utcoffset(self, when: Any) -> Any:
        return datetime.timedelta(0)


def local_class() -> Any:
    @dataclasses.dataclass
    class Inner:
        x: int = 1

    return Inner()


def marked(atoms: Atoms) -> Atoms:
    atoms.of_my_own = 1
    return atoms


def with_info(item: Any) -> Atoms:
    atoms = Atoms("H")
    atoms.info["model"] = item
    return atoms


class MyConstraint(FixConstraint):  # type: ignore[misc]
    pass


def constrained() -> Atoms:
    atoms = Atoms("H")
    atoms.set_constraint(MyConstraint())
    return atoms


REFUSED = {
    "an object": (
        lambda: {"atoms": [1, 2, 3, Potential(5.0)]},
        r"value\['atoms'\]\[3\].*Potential.*ms.values.register",
    ),
    "in info": (lambda: [with_info(Potential(1))], r"value\[0\]\.info\['model'\].*Potential"),
    "an attribute of atoms": (lambda: marked(Atoms("H")), r"value\.of_my_own.*atoms\.info\['of_my_own'\]"),
    "own constraint": (constrained, r"value\.constraints\[0\].*MyConstraint.*ase\.constraints"),
    "function": (lambda: {"f": print}, r"value\['f'\].*give its name"),
    "class": (lambda: Sample, r"value is a type"),
    "generator": (lambda: (x for x in ()), r"generator.*list"),
    "str subclass": (lambda: Text("a"), r"Text.*use str\(\.\.\.\)"),
    "key": (lambda: {Potential(1): 2}, r"value's key .*Potential"),
    "cycle": (cycle, "holds itself"),
    "deep": (lambda: deep(300), "deeper than 200"),
    "very deep": (lambda: deep(100_000), "deeper than 200"),
    "object array": (lambda: np.array([None]), "dtype.*tolist"),
    "masked array": (lambda: np.ma.array([1], mask=[True]), r"MaskedArray.*numpy\.asarray"),
    "zone": (lambda: datetime.datetime(2020, 1, 1, tzinfo=NotARegisteredZone()), "NotARegisteredZone.*ZoneInfo"),
    "factory": (lambda: collections.defaultdict(lambda: 1), r"makes missing items.*dict\(\.\.\.\)"),
    "local class": (local_class, "top of a cell"),
    "sparse": (lambda: pd.Series(pd.arrays.SparseArray([0, 1])), r"Sparse.*astype"),
    "no duplicates": (lambda: pd.Series([1]).set_flags(allows_duplicate_labels=False), "set_flags"),
    "open file": (lambda: io.BytesIO(), "BytesIO"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_exact_is_refused_by_its_place_with_a_way_out(case: str) -> None:
    make, said = REFUSED[case]
    value = make()
    with pytest.raises(NotWritableError, match=f"(?s){said}"):
        written(value)
    while isinstance(value, list | dict) and case == "very deep":  # taken apart without recursion
        value = next(iter(value.values() if isinstance(value, dict) else value))


def test_an_object_of_a_class_that_was_defined_anew_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Sample(1.0)
    monkeypatch.setattr(sys.modules[__name__], "Sample", dataclasses.make_dataclass("Sample", ["mass_g"]))
    with pytest.raises(NotWritableError, match="make the object anew"):
        written(old)


# -- kinds of one's own -----------------------------------------------------------------------------


@pytest.fixture
def unregistered() -> Iterator[None]:
    before = dict(codec._REGISTERED)
    yield
    codec._REGISTERED.clear()
    codec._REGISTERED.update(before)


@pytest.mark.usefixtures("unregistered")
def test_a_registered_class_comes_back() -> None:
    values.register(Potential, lambda potential: {"cutoff": potential.cutoff}, lambda plain: Potential(plain["cutoff"]))
    plain, encoder = written([Potential(5.0)])
    found = Decoder({}.__getitem__, nothing_allowed, loaded=True).decode(plain)
    assert found[0].cutoff == 5.0
    assert list(encoder.classes.values()) == [Potential]
    codec._REGISTERED.clear()
    with pytest.raises(NotReadableError, match=r"register"):
        Decoder({}.__getitem__, nothing_allowed, loaded=True).decode(plain)


def test_kinds_of_the_caller_come_first() -> None:
    encoder = Encoder({Potential: lambda p: {"@": "reference", "task": "a", "at": [p.cutoff]}})
    plain = encoder.encode((Potential(1.0), {"x": Potential(2.0)}))
    decoder = Decoder({}.__getitem__, nothing_allowed, special={"reference": lambda plain: plain["at"][0]})
    assert decoder.decode(plain) == (1.0, {"x": 2.0})


# -- a stranger's value.json ------------------------------------------------------------------------


def saved(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def leave(directory: Path, value: Any, arrays: dict[str, bytes] | None = None) -> None:
    text = value if isinstance(value, str) else json.dumps({"format": 1, "value": value})
    (directory / "value.json").write_text(text)
    for name, content in (arrays or {}).items():
        (directory / "value").mkdir(exist_ok=True)
        (directory / "value" / name).write_bytes(content)


ATOMS = written(Atoms("H"))[0]
ARRAY = {"@": "array", "dtype": "<f8", "shape": [2], "values": [1.0, 2.0]}
SYSTEM = {"@module": "os", "@callable": "system", "@bound": None}
INTRUDER = {"@module": "intruder", "@class": "X"}


def structure(**held: Any) -> Any:
    return {"@": "msonable", "class": "crystals:Serial", "value": held}


TABLE = {"@": "series", "name": None, "index": {"@": "index", "range": [0, 1, 1], "names": [None]}}
PICKLED = saved(np.array([Phase.FCC], dtype=object), allow_pickle=True)
HOSTILE: dict[str, Any] = {
    "no JSON": "{",
    "deep": "[" * 100_000,
    "deep and closed": '{"format": 1, "value": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "deep kinds": '{"format":1,"value":' + '{"@":"tuple","items":[' * 300 + "]}" * 300 + "}",
    "huge number": '{"format": 1, "value": ' + "9" * 100_000 + "}",
    "format": '{"format": true, "value": 1}',
    "no value": '{"format": 1}',
    "kind": {"@": "callable"},
    "kind is no text": {"@": ["tuple"]},
    "module": {"@": "dataclass", "class": "intruder:X", "fields": {}},
    "main of a module": {"@": "enum", "class": "json.__main__:X", "name": "a"},
    "loaded module": {"@": "dataclass", "class": "subprocess:Popen", "fields": {"args": ["touch", "x"]}},
    "enum of none": {"@": "enum", "class": "os:system", "name": "true"},
    "class that a module has only imported": {"@": "enum", "class": f"{__name__}:HealthCheck", "name": "too_slow"},
    "class is a path": {"@": "dataclass", "class": "../x:Y", "fields": {}},
    "other class": {"@": "dataclass", "class": "pymatgen.core.structure:os.path", "fields": {}},
    "msonable": {"@": "msonable", "class": "os:system", "value": {}},
    "callable": structure(x=SYSTEM),
    "callable deeper": structure(x=[{"y": {"@": "tuple", "items": [SYSTEM]}}]),
    "import": structure(x=INTRUDER),
    "import in pairs": structure(x={"@": "dict", "items": [["@module", "intruder"], ["@class", "X"]]}),
    "import in a key of numpy": structure(
        x={"@": "dict", "items": [[{"@": "scalar", "dtype": "<U7", "values": "@module"}, "intruder"], ["@class", "X"]]}
    ),
    "import in a tuple": structure(x={"@": "tuple", "items": [INTRUDER]}),
    "import in nested": structure(x=structure(y={"z": INTRUDER})),
    "import in a dict of another kind": structure(
        x={"@": "OrderedDict", "items": [["@module", "intruder"], ["@class", "X"]]}
    ),
    "import in a table": structure(
        x={
            "@": "series",
            "name": None,
            "index": {"@": "index", "range": [0, 1, 1], "names": [None]},
            "data": {"objects": [INTRUDER]},
        }
    ),
    "import in text for monty": structure(x={"@module": "pandas", "@class": "Series", "data": json.dumps(INTRUDER)}),
    "main of numpy": structure(x={"@module": "numpy.f2py.__main__", "@class": "X"}),
    "constraint": {**ATOMS, "constraints": [{"name": "os.system", "kwargs": {"command": "true"}}]},
    "constraint is a function": {**ATOMS, "constraints": [{"name": "constrained_indices", "kwargs": {"atoms": ATOMS}}]},
    "constraint state": {**ATOMS, "constraints": [{"name": "FixCom", "kwargs": {}, "state": {"__class__": 1}}]},
    "atoms without positions": {**ATOMS, "arrays": {}},
    "atoms of other lengths": {**ATOMS, "arrays": {**ATOMS["arrays"], "tags": ARRAY}},
    "atoms of another class": {**ATOMS, "class": "intruder:X"},
    "atoms of atoms": {**ATOMS, "cell": ATOMS},
    "objects": {**ARRAY, "dtype": "O"},
    "objects within": {**ARRAY, "dtype": [["a", "|O8"]]},
    "object code": {**ARRAY, "dtype": "builtins.object"},
    "negative": {**ARRAY, "shape": [-2]},
    "many": {"@": "array", "dtype": "<f8", "shape": [10**15], "base64": ""},
    "many of nothing": {"@": "array", "dtype": "|V0", "shape": [10**15], "base64": ""},
    "wide": {"@": "array", "dtype": "<U500000000", "shape": [100], "values": ["a"] * 100},
    "ragged": {**ARRAY, "values": [[1.0], 2.0]},
    "climbs": {**ARRAY, "file": "../../etc/passwd"},
    "climbs by its end": {**ARRAY, "file": "a" * 64 + ".npy/../x"},
    "not there": {**ARRAY, "file": "a" * 64 + ".npy"},
    "unhashable key": {"@": "dict", "items": [[[1], 2]]},
    "key twice": {"@": "dict", "items": [[1, 2], [True, 3]]},
    "key of NaN": {"@": "dict", "items": [[{"@": "float", "value": "nan"}, 1], [1]]},
    "item twice": {"@": "set", "items": [1, 1]},
    "zone": {"@": "zone", "key": "../../../etc/passwd"},
    "factory": {"@": "defaultdict", "items": [], "default": "eval"},
    "frequency": {"@": "index", "data": {**ARRAY, "dtype": "<M8[ns]", "values": [0, 5]}, "names": [None], "freq": "D"},
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("trusted", [None, ["crystals"]])
def test_a_strangers_value_runs_nothing(crystals: Any, tmp_path: Path, case: str, trusted: Any) -> None:
    leave(tmp_path, HOSTILE[case])
    before = set(sys.modules)
    with pytest.raises(ValueNotReadableError) as error:
        values.read_value(tmp_path, trusted_packages=trusted)
    assert "intruder" not in sys.modules
    assert not {name for name in set(sys.modules) - before if not name.startswith(("numpy", "pandas", "ase", "tzdata"))}
    assert not set(crystals.RAN) - {"crystals"}
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
    "content",
    [
        PICKLED,
        saved(np.array([1.0, 2.0, 3.0])),
        saved(np.array([1, 2])),
        saved(np.array([1.0, 2.0]))[:-1],
        saved(np.array([1.0, 2.0])).replace(b"(2,)", b"(9,)"),
        b"",
        b"\x93NUMPY\x01\x00v\x00{'descr': __import__('os').system('true')}",
    ],
    ids=["pickle", "longer", "of another type", "cut off", "a lie", "empty", "code"],
)
def test_a_strangers_array_is_refused(tmp_path: Path, content: bytes) -> None:
    name = f"{hashlib.sha256(content).hexdigest()}.npy"
    leave(tmp_path, {"@": "array", "dtype": "<f8", "shape": [2], "file": name}, {name: content})
    with pytest.raises(ValueNotReadableError):
        values.read_value(tmp_path, trusted_packages=None)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a" * 64 + ".npy/../x", "a" * 64 + ".npy\n", "/etc/passwd", ""])
def test_only_names_of_arrays_are_asked_for(name: str) -> None:
    asked: list[str] = []
    with pytest.raises(NotReadableError, match="no name of an array"):
        Decoder(asked.append, nothing_allowed).decode({**ARRAY, "file": name})  # type: ignore[arg-type]
    assert not asked


def test_an_array_of_another_sum_or_behind_a_link_is_refused(tmp_path: Path) -> None:
    content = saved(np.array([1.0, 2.0]))
    name = f"{hashlib.sha256(content).hexdigest()}.npy"
    plain = {"@": "array", "dtype": "<f8", "shape": [2], "file": name}
    leave(tmp_path, plain, {name: content})
    assert values.read_value(tmp_path, trusted_packages=None).tolist() == [1.0, 2.0]
    (tmp_path / "value" / name).write_bytes(saved(np.array([1.0, 3.0])))
    with pytest.raises(ValueNotReadableError, match="another content"):
        values.read_value(tmp_path, trusted_packages=None)
    (tmp_path / "elsewhere").write_bytes(content)
    (tmp_path / "value" / name).unlink()
    (tmp_path / "value" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueNotReadableError, match="link"):
        values.read_value(tmp_path, trusted_packages=None)
    (tmp_path / "value.json").rename(tmp_path / "moved.json")
    (tmp_path / "value.json").symlink_to(tmp_path / "moved.json")
    with pytest.raises(ValueNotReadableError, match="link"):
        values.read_value(tmp_path, trusted_packages=None)


def places(plain: Any) -> list[tuple[Any, Any]]:
    """Return every place in JSON data, as the container and the key."""
    keys = list(plain) if isinstance(plain, dict) else list(range(len(plain))) if isinstance(plain, list) else []
    return [(plain, key) for key in keys] + [found for key in keys for found in places(plain[key])]


JUNK: list[Any] = [None, True, -1, 10**30, 1e308, "", "x", "os", [], {}, [[]], {"@": "atoms"}, INTRUDER, "@module"]


def everything() -> Any:
    atoms = copper()
    atoms.set_constraint(every_constraint()[:-1])
    atoms.get_forces(apply_constraint=False)
    table = FRAMES[-1]
    return [atoms, table, INDEXES, Sample(1.0), Phase.FCC, np.arange(3), {1: {2}}, Point(1, 2), b"x", 1j]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
@pytest.mark.filterwarnings("ignore")
def test_changed_encodings_are_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    plain = copy.deepcopy(EVERYTHING[data.draw(st.integers(0, len(EVERYTHING) - 1))])
    for _ in range(data.draw(st.integers(1, 3))):
        found = places(plain)
        container, key = data.draw(st.sampled_from(found)) if found else ([plain], 0)
        change = data.draw(st.sampled_from(["junk", "swap", "drop"]))
        if change == "junk":
            container[key] = copy.deepcopy(data.draw(st.sampled_from(JUNK)))
        elif change == "swap" and found:
            other, its = data.draw(st.sampled_from(found))
            container[key] = copy.deepcopy(other[its])
        elif isinstance(container, dict):
            del container[key]
    with contextlib.suppress(NotReadableError):
        Decoder({}.__getitem__, nothing_allowed, loaded=data.draw(st.booleans())).decode(plain)
    assert "intruder" not in sys.modules


EVERYTHING = written(everything())[0]


# -- the package's side -----------------------------------------------------------------------------


def test_classes_of_this_kernel_are_read_of_a_trusted_run_only(tmp_path: Path) -> None:
    codec.write_value(str(tmp_path), {"sample": Sample(1.5), "big": np.arange(20_000)})
    found = values.read_value(tmp_path, trusted_packages=[])
    assert found["sample"] == Sample(1.5)
    with pytest.raises(ValueNotReadableError, match=r"Sample.*not trusted.*raw=True"):
        values.read_value(tmp_path, trusted_packages=None)
    raw = values.read_value(tmp_path, trusted_packages=None, raw=True)
    assert raw["sample"]["fields"]["mass_g"] == 1.5


def test_a_class_of_a_kernel_that_is_gone_is_named(tmp_path: Path) -> None:
    leave(tmp_path, [{"@": "dataclass", "class": "__main__:Gone", "fields": {}}])
    with pytest.raises(ValueNotReadableError, match=r"value\[0\].*__main__:Gone.*define in this kernel.*raw=True"):
        values.read_value(tmp_path, trusted_packages=["numpy"])
    (tmp_path / "value").mkdir()
    with pytest.raises(ValueNotReadableError, match=r"there is no value\.json"):
        values.read_value(tmp_path / "value", trusted_packages=None)


def test_a_class_with_other_fields_than_it_had_is_refused(tmp_path: Path) -> None:
    leave(tmp_path, {"@": "dataclass", "class": f"{__name__}:Slotted", "fields": {"y": 1}})
    with pytest.raises(ValueNotReadableError, match=r"other fields here.*x, y"):
        values.read_value(tmp_path, trusted_packages=[])


def test_scalars_are_strict_json_for_a_table() -> None:
    value = {
        "energy_eV": np.float64(-3.5),
        "n": np.int8(3),
        "ok": np.bool_(True),
        "nan": math.nan,
        "inf": np.float32(np.inf),
        "text": "fcc",
        "long": "x" * 2000,
        "huge": 10**30,
        "broken": "\ud800",
        "array": np.arange(2),
        "when": np.datetime64("2020"),
        1: 2,
        **{f"k{n}": n for n in range(300)},
    }
    found = scalars(value)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found)[:6] == ["energy_eV", "n", "ok", "nan", "inf", "text"]
    assert (found["energy_eV"], found["n"], found["ok"], found["nan"], found["inf"]) == (-3.5, 3, True, None, None)
    assert len(found) == 200
    assert not {"long", "huge", "broken", "array", "when"} & set(found)
    assert scalars(-1.5) == {"value": -1.5}
    assert scalars(Sample(2.0)) == {"mass_g": 2.0}
    assert scalars([1, 2]) == {}


def test_the_codec_needs_no_library_to_be_imported() -> None:
    import subprocess

    program = textwrap.dedent(f"""
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("matterstack_values", {codec.__file__!r})
        module = importlib.util.module_from_spec(spec)
        sys.modules["matterstack_values"] = module
        spec.loader.exec_module(module)
        print(module.Encoder().encode((1, 2)))
    """)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'@': 'tuple', 'items': [1, 2]}"


BROKEN_JSON = (
    b"",
    b" [1]",
    b"[1]\n",
    b"[1] 2",
    b"[1,]",
    b'{"a"',
    b"'a'",
    b"tru",
    b"\xff",
    b'"\x01"',
    b"1" * 5000,
    b"[" * 5000,
)
ODD_JSON = (
    b"NaN",
    b"[-Infinity, Infinity]",
    b"\xef\xbb\xbf[1]",
    "[1]".encode("utf-16"),
    b'{"a": 1, "a": 2}',
    b"1E400",
    b"-0",
)
ODD_JSON += (b'"\\ud800"', b'"\xed\xa0\x80"', '"\N{SNOWMAN}"'.encode(), b"[1, \n 2.50, {} ]")


def said_by(call: Any, *given: Any, **more: Any) -> str:
    try:
        return repr(call(*given, **more))
    except (ValueError, TypeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("content", BROKEN_JSON + ODD_JSON, ids=lambda content: repr(content[:20]))
def test_text_is_read_as_json_reads_it(content: bytes) -> None:
    assert said_by(codec.from_json, content) == said_by(json.loads, content)


JSON_DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(JSON_DATA)
def test_text_is_written_as_json_writes_it(data: Any) -> None:
    text = said_by(codec.to_json, data)
    assert text == said_by(json.dumps, data, allow_nan=False)
    if not text.startswith("ValueError"):
        assert repr(codec.from_json(codec.to_json(data).encode())) == repr(data)


@pytest.mark.parametrize(
    "data", [{1: "a", None: 2}, {(1,): 2}, {1, 2}, object()], ids=["keys", "a tuple as key", "a set", "an object"]
)
def test_what_is_no_json_is_written_or_refused_as_json_does(data: Any) -> None:
    assert said_by(codec.to_json, data) == said_by(json.dumps, data)
