"""Values as JSON and back: what goes into a function that runs elsewhere, and what it returns.

A value becomes plain JSON data; what JSON does not have becomes an object that says its kind under ``"@"``. The way
back gives an equal value of the same type, or `NotReadableError`; what could not come back exactly is refused with
`NotWritableError` when it is written. To read imports and calls only what `Decoder` was told it may.

This file is copied beside each task as ``matterstack_values.py``. It imports nothing of MatterStack, and needs
Python 3.9. Every call starts with its imports, which are therefore those that Python has made by itself; all others,
from `json` to pandas, are made when a value needs them.
"""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False  # as `typing` has it, which is not imported either
if TYPE_CHECKING:
    import datetime
    import enum
    import pathlib
    import zoneinfo
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

FORMAT = 1
MOST_INLINE = 10_000  # numbers; larger arrays become files
MAX_DEPTH = 200
MOST_JSON_BYTES = 100_000_000
MOST_ARRAY_BYTES = 2_000_000_000
_INLINE_BYTES = 16 * MOST_INLINE  # complex numbers, the widest that are written as numbers
_HEADER_BYTES = 1 << 16  # of an array's file
_MOST_SCALARS = 200
_MOST_CHARACTERS = 1000

_INFINITY = float("inf")

_ARRAY_FILE = r"[0-9a-f]{64}\.npy"
_CLASS_NAME = r"\w+(\.\w+)*:\w+(\.\w+)*"
_SIMPLE_DTYPE = r"[<>|=]?[biufcmMSUV]\d+(\[\w+\])?|[<>|=]?[mMSUV]"
_READABLE = frozenset("biufcmMU")  # kinds of numbers and text that are written so that a person can read them
_FACTORIES: dict[str, Any] = {
    kind.__name__: kind for kind in (list, dict, set, tuple, int, float, complex, str, bytes, bool, frozenset)
}
_PATHS = ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")


class NotWritableError(TypeError):
    """A value that cannot be written down exactly; the message says which part, its type, and what to do."""


class NotReadableError(ValueError):
    """What is written cannot be read here; the message says which part, and why."""


# -- classes of a user's own -----------------------------------------------------------------------


class _Kind:
    """A kind of the user's own."""

    def __init__(self, cls: type, to_plain: Callable[[Any], Any], from_plain: Callable[[Any], Any]) -> None:
        self.cls, self.to_plain, self.from_plain = cls, to_plain, from_plain


#: By the name of the class, so that a class that a cell defines anew takes the place of the former.
_REGISTERED: dict[str, _Kind] = {}


def register(cls: type, to_plain: Callable[[Any], Any], from_plain: Callable[[Any], Any]) -> None:
    """Say how objects of a class are written, and made again.

    Parameters
    ----------
    cls : type
        Of the objects; not of its subclasses.
    to_plain : callable
        From an object to a value that can be written.
    from_plain : callable
        From that value to an equal object.

    Raises
    ------
    TypeError
        ``cls`` is no class.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register a class, and not {cls!r}")
    _REGISTERED[name_of(cls)] = _Kind(cls, to_plain, from_plain)


def registered(cls: type) -> tuple[Callable[[Any], Any], Callable[[Any], Any]] | None:
    """Return the two functions that a class is registered with; None where it is not."""
    found = _REGISTERED.get(name_of(cls))
    return (found.to_plain, found.from_plain) if found is not None and found.cls is cls else None


def registered_classes() -> list[type]:
    """Return the classes that are registered here, by name."""
    return [_REGISTERED[name].cls for name in sorted(_REGISTERED)]


def name_of(cls: type) -> str:
    """Return the name of a class as it is written: ``"module:Outer.Inner"``."""
    return f"{cls.__module__}:{cls.__qualname__}"


def _matches(pattern: str, text: str) -> bool:
    import re

    return re.fullmatch(pattern, text) is not None


def _loaded(module: str, name: str) -> Any:
    """Return a class of a module that is imported, as it is where there is an object of it; else what nothing is."""
    return getattr(sys.modules.get(module), name, ())


def _loaded_class(name: str) -> Any:
    """Return a class by its name from the modules that are imported; None where it is not there."""
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        if not isinstance(found, (type(sys), type)):
            return None
        found = vars(found).get(part)
    # A module also holds what it has imported; what is asked for has to be its own.
    return found if isinstance(found, type) and name_of(found) == name else None


def _is_namedtuple(cls: type) -> bool:
    fields = getattr(cls, "_fields", None)
    return issubclass(cls, tuple) and isinstance(fields, tuple) and all(isinstance(field, str) for field in fields)


def _is_dataclass(thing: Any) -> bool:
    # As `dataclasses` tells it, which is slow to import, and is there where a dataclass is.
    return hasattr(thing, "__dataclass_fields__")


def _fields_of(thing: Any) -> Iterable[Any]:
    import dataclasses

    return dataclasses.fields(thing)


def _is_msonable(cls: type) -> bool:
    return callable(getattr(cls, "as_dict", None)) and callable(getattr(cls, "from_dict", None))


def _shown(kind: type) -> str:
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _place(path: Iterable[Any]) -> str:
    """Return a path in words: a step is text, or an item's key, or a key itself and that it is one."""
    first, *steps = path
    place = str(first)
    for step in steps:
        if isinstance(step, str):
            place += step
        else:
            place += f"'s key {_said(step[0])}" if len(step) > 1 else f"[{_said(step[0])}]"
    return place


def _said(key: Any) -> str:
    try:
        return f"{key!r:.60}"
    except Exception:  # noqa: BLE001 - a __repr__ of the user's own, or a number of thousands of digits
        return f"a {_shown(type(key))}"


# -- writing ---------------------------------------------------------------------------------------


class Encoder:
    """Values to plain JSON data.

    Parameters
    ----------
    special : mapping of type to callable
        Kinds of the caller's own: from an object to the JSON object that stands for it. They are asked first.
    classes : mapping of str to type
        Classes that go by another name than their own, as those that were copied into a task's file.

    Attributes
    ----------
    arrays : dict of str to bytes
        Content of the large arrays that were met, by the name of their file: the SHA-256 of it, and ``.npy``.
    classes : dict of str to type
        Dataclasses, enumerations, named tuples, registered and ``as_dict`` classes that were met, by name.
    """

    def __init__(
        self,
        special: Mapping[type, Callable[[Any], Any]] | None = None,
        classes: Mapping[str, type] | None = None,
    ) -> None:
        self.arrays: dict[str, bytes] = {}
        self.classes: dict[str, type] = {}
        self._special = dict(special or {})
        self._names = {cls: name for name, cls in (classes or {}).items()}
        self.path: list[Any] = ["value"]

    def encode(self, value: Any, where: str = "value") -> Any:
        """Return JSON data that stands for a value.

        Parameters
        ----------
        value : object
        where : str
            What the value is called in errors.

        Raises
        ------
        NotWritableError
            A part of it cannot be written exactly.

        Examples
        --------
        >>> Encoder().encode({"cell": (1, 2.5), "spin": 1 + 2j})
        {'cell': {'@': 'tuple', 'items': [1, 2.5]}, 'spin': {'@': 'complex', 'real': 1.0, 'imag': 2.0}}
        """
        self.path = [where]
        try:
            return self.plain(value)
        except RecursionError:
            raise self.too_deep() from None

    def plain(self, value: Any) -> Any:
        """Encode a value; where it is has been said."""
        kind = type(value)
        if kind in self._special:
            return self._special[kind](value)
        write = _WRITERS.get(kind)
        return _other(self, value) if write is None else write(self, value)

    def too_deep(self) -> NotWritableError:
        """Return the error that says so."""
        return NotWritableError(
            f"{_place(self.path[:5])}... is nested deeper than {MAX_DEPTH} levels, or holds itself: "
            "take it apart before it is written"
        )

    def refuse(self, value: Any, way_out: str, why: str = "") -> NotWritableError:
        """Return the error that says which part cannot be written."""
        kind = _shown(type(value))
        why = why or f"is a {kind}, which cannot be written down exactly"
        return NotWritableError(f"{_place(self.path)} {why}: {way_out}")

    def inside(self, step: Any, value: Any) -> Any:
        """Encode a part of a value; the step is as `_place` shows it."""
        if len(self.path) > MAX_DEPTH:
            raise self.too_deep()
        self.path.append(step)
        plain = self.plain(value)
        self.path.pop()
        return plain

    def at(self, step: Any) -> _At:
        """Have errors inside say that they are there."""
        return _At(self.path, step)

    def items(self, values: Iterable[Any]) -> list[Any]:
        """Encode the items of a sequence."""
        path, plain = self.path, []
        if len(path) > MAX_DEPTH:
            raise self.too_deep()
        path.append(None)
        for number, value in enumerate(values):
            path[-1] = (number,)
            plain.append(self.plain(value))
        path.pop()
        return plain

    def fields(self, values: Mapping[str, Any], step: str = ".{}") -> dict[str, Any]:
        """Encode values by names that are plain text."""
        return {name: self.inside(step.format(name), value) for name, value in values.items()}

    def class_name(self, value: Any) -> str:
        """Return the name of an object's class, and note the class.

        Raises
        ------
        NotWritableError
            Its name would not lead to it.
        """
        cls = type(value)
        name = self._names.get(cls)
        if name is None:
            name = name_of(cls)
            if not _matches(_CLASS_NAME, name):
                raise self.refuse(value, "define the class at the top of a cell or module, not inside a function")
            if _loaded_class(name) is not cls:
                raise self.refuse(
                    value,
                    "make the object anew with the class as it is now",
                    f"is of a class {_shown(cls)} that is not the one of this name any more",
                )
        self.classes[name] = cls
        return name

    def array_file(self, array: Any) -> str:
        """Keep the content of a large array, and return the name of its file."""
        import hashlib

        import numpy as np

        if array.nbytes > MOST_ARRAY_BYTES - _HEADER_BYTES:
            raise self.refuse(array, "write a file, and return its name", f"holds {array.nbytes} bytes")
        file = io.BytesIO()
        np.lib.format.write_array(file, array, allow_pickle=False)
        content = file.getvalue()
        name = f"{hashlib.sha256(content).hexdigest()}.npy"
        self.arrays[name] = content
        return name


class _At:
    """A step of a path for as long as the block lasts; after an error the path is still needed."""

    def __init__(self, path: list[Any], step: Any) -> None:
        self._path, self._step = path, step

    def __enter__(self) -> None:
        self._path.append(self._step)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._path.pop()


def _itself(encoder: Encoder, value: Any) -> Any:
    return value


def _is_text(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(encoder: Encoder, value: str) -> Any:
    if _is_text(value):
        return value
    return {"@": "str", "utf8": value.encode("utf-8", "surrogatepass").hex()}  # half of a surrogate pair


def _int(encoder: Encoder, value: int) -> Any:
    # Python refuses to read decimal numbers of thousands of digits.
    return value if value.bit_length() <= 2000 else {"@": "int", "hex": hex(value)}


def _is_finite(value: float) -> bool:
    return -_INFINITY < value < _INFINITY


def _float(encoder: Encoder, value: float) -> Any:
    if _is_finite(value):
        return value
    import struct

    if value == value or struct.pack(">d", value) == struct.pack(">d", float("nan")):
        return {"@": "float", "value": repr(value)}
    return {"@": "float", "bits": struct.pack(">d", value).hex()}


def _complex(encoder: Encoder, value: complex) -> Any:
    return {"@": "complex", "real": _float(encoder, value.real), "imag": _float(encoder, value.imag)}


def _bytes(encoder: Encoder, value: bytes) -> Any:
    import base64

    if len(value) > _INLINE_BYTES:
        import numpy as np

        return {"@": "bytes", "array": _array(encoder, np.frombuffer(value, np.uint8))}
    return {"@": "bytes", "base64": base64.b64encode(value).decode()}


def _list(encoder: Encoder, value: list[Any]) -> Any:
    return encoder.items(value)


def _tuple(encoder: Encoder, value: tuple[Any, ...]) -> Any:
    return {"@": "tuple", "items": encoder.items(value)}


def _set(encoder: Encoder, value: Any) -> Any:
    import json

    # In an order that hashes have no part in, so that equal sets are equal bytes.
    items = sorted(encoder.items(value), key=lambda item: json.dumps(item, sort_keys=True))
    return {"@": type(value).__name__, "items": items}


def _dict(encoder: Encoder, value: dict[Any, Any]) -> Any:
    if not all(type(key) is str and key != "@" and _is_text(key) for key in value):
        return {"@": "dict", "items": _pairs(encoder, value)}
    path, plain = encoder.path, {}
    if len(path) > MAX_DEPTH:
        raise encoder.too_deep()
    path.append(None)
    for key, item in value.items():
        path[-1] = (key,)
        plain[key] = encoder.plain(item)
    path.pop()
    return plain


def _pairs(encoder: Encoder, value: Mapping[Any, Any]) -> list[Any]:
    return [[encoder.inside((key, True), key), encoder.inside((key,), item)] for key, item in value.items()]


def _special_dict(encoder: Encoder, value: Any) -> Any:
    import collections

    if type(value) not in (collections.OrderedDict, collections.defaultdict, collections.Counter):
        return None
    if getattr(value, "__dict__", None):
        raise encoder.refuse(value, "use dict(...)", "has attributes besides its items")
    plain: dict[str, Any] = {"@": type(value).__name__, "items": _pairs(encoder, value)}
    if isinstance(value, collections.defaultdict):
        factory = value.default_factory
        name = getattr(factory, "__name__", None)
        if factory is not None and _FACTORIES.get(str(name)) is not factory:
            raise encoder.refuse(value, "use dict(...)", f"makes missing items by {factory!r:.80}")
        plain["default"] = name
    return plain


def _time(encoder: Encoder, value: Any) -> Any:
    import datetime

    cls = type(value)
    if cls is datetime.date:
        return {"@": "date", "iso": value.isoformat()}
    if cls is datetime.timedelta:
        return _timedelta(value)
    if cls is datetime.timezone:
        return _fixed_zone(encoder, value)
    return _moment(encoder, value) if cls in (datetime.datetime, datetime.time) else None


def _moment(encoder: Encoder, value: Any) -> Any:
    plain: dict[str, Any] = {"@": type(value).__name__, "iso": value.replace(tzinfo=None, fold=0).isoformat()}
    if value.tzinfo is not None:
        plain["zone"] = _zone_of(encoder, value)
    if value.fold:
        plain["fold"] = 1
    return plain


def _zone_of(encoder: Encoder, value: Any) -> Any:
    if type(value.tzinfo) is not _loaded("datetime", "timezone") and not _is_zone(value.tzinfo):
        raise encoder.refuse(
            value,
            "use zoneinfo.ZoneInfo or datetime.timezone",
            f"has a time zone of {_shown(type(value.tzinfo))}, which cannot be written down exactly",
        )
    return encoder.inside(".tzinfo", value.tzinfo)


def _fixed_zone(encoder: Encoder, value: datetime.timezone) -> Any:
    given: Any = value
    offset, *name = given.__getinitargs__()
    plain = {"@": "timezone", "offset": _timedelta(offset)}
    return {**plain, "name": _text(encoder, name[0])} if name else plain


def _is_zone(value: Any) -> bool:
    return type(value) is _loaded("zoneinfo", "ZoneInfo")


def _zone(encoder: Encoder, value: zoneinfo.ZoneInfo) -> Any:
    if not _is_zone(value):
        return None
    if value.key is None:
        raise encoder.refuse(value, "make it by its name", "is a time zone without a name")
    return {"@": "zone", "key": value.key}


def _timedelta(value: datetime.timedelta) -> Any:
    return {"@": "timedelta", "days": value.days, "seconds": value.seconds, "microseconds": value.microseconds}


def _path(encoder: Encoder, value: pathlib.PurePath) -> Any:
    name = type(value).__name__
    if name not in _PATHS or type(value) is not getattr(sys.modules["pathlib"], name):
        return None
    return {"@": "path", "class": type(value).__name__, "path": _text(encoder, str(value))}


_WRITERS: dict[type, Callable[[Encoder, Any], Any]] = {
    type(None): _itself,
    bool: _itself,
    int: _int,
    float: _float,
    str: _text,
    list: _list,
    dict: _dict,
    tuple: _tuple,
    complex: _complex,
    bytes: _bytes,
    set: _set,
    frozenset: _set,
}


def _other(encoder: Encoder, value: Any) -> Any:
    """Write what is no plain Python."""
    cls = type(value)
    kind = registered(cls)
    if kind is not None:
        name, said = encoder.class_name(value), _called(encoder, value, "registered function", lambda: kind[0](value))
        return {"@": "registered", "class": name, "value": encoder.inside(" as registered", said)}
    write = _LIBRARIES.get(cls.__module__.partition(".")[0])
    plain = write(encoder, value) if write is not None else None
    if plain is not None:
        return plain
    if isinstance(value, _loaded("enum", "Enum")):
        return _enum(encoder, value)
    if isinstance(value, _loaded("ase", "Atoms")):
        return {**_atoms(encoder, value), "class": encoder.class_name(value)}
    if _is_dataclass(cls) and not issubclass(cls, type):
        return _dataclass(encoder, value)
    if _is_namedtuple(cls):
        return _namedtuple(encoder, value)
    if _is_msonable(cls):
        return _msonable(encoder, value)
    raise encoder.refuse(value, _way_out(value))


def _way_out(value: Any) -> str:
    cls = type(value)
    name = cls.__name__
    for plain in (bool, int, float, str, bytes, list, tuple, dict, set, frozenset):
        if isinstance(value, plain):
            return f"use {plain.__name__}(...)"
    if isinstance(value, (_loaded("datetime", "date"), _loaded("pathlib", "PurePath"))):
        return "use the class that it is derived from"
    if name in ("range", "deque", "generator", "map", "filter", "zip", "dict_keys", "dict_values", "dict_items"):
        return "use list(...)"
    if name in ("function", "builtin_function_or_method", "method", "type", "module"):
        return "give its name, or what it is called with, instead"
    if hasattr(value, "tolist") or hasattr(value, "__array__"):
        return "use numpy.asarray(...)"
    return "give the numbers and texts it is made of, write a file, or say how by ms.values.register(...)"


def _enum(encoder: Encoder, value: enum.Enum) -> Any:
    import enum

    cls = type(value)
    name = encoder.class_name(value)
    if cls.__members__.get(str(value._name_)) is value:
        return {"@": "enum", "class": name, "name": value._name_}
    if isinstance(value, enum.Flag) and type(value._value_) is int and cls(value._value_) == value:
        return {"@": "enum", "class": name, "value": value._value_}
    raise encoder.refuse(value, "use one of its members", f"is no member of {_shown(cls)}")


def _dataclass(encoder: Encoder, value: Any) -> Any:
    # Fields are set as they are, without __init__, which may count, convert or check again.
    try:
        object.__new__(type(value))
    except TypeError:
        raise encoder.refuse(value, _way_out(value)) from None
    names = [field.name for field in _fields_of(value)]
    missing = object()
    held = {name: getattr(value, name, missing) for name in names}
    for name, item in held.items():
        if item is missing:
            raise encoder.refuse(value, "give it a value", f"has no value in its field {name!r}")
    plain = {"@": "dataclass", "class": encoder.class_name(value), "fields": encoder.fields(held)}
    more = {name: item for name, item in getattr(value, "__dict__", {}).items() if name not in held}
    if more:
        plain["more"] = encoder.fields(more)
    return plain


def _namedtuple(encoder: Encoder, value: Any) -> Any:
    if getattr(value, "__dict__", None) or len(value) != len(value._fields):
        raise encoder.refuse(value, "use tuple(...)", "is a named tuple with more than its fields")
    return {
        "@": "namedtuple",
        "class": encoder.class_name(value),
        "fields": encoder.fields(dict(zip(value._fields, value))),
    }


def _msonable(encoder: Encoder, value: Any) -> Any:
    import copy

    cls = type(value)
    name = encoder.class_name(value)
    said = _called(encoder, value, "as_dict()", value.as_dict)
    if type(said) is not dict:
        raise encoder.refuse(value, "say how by ms.values.register(...)", "has an as_dict() that gives no dict")
    plain = encoder.inside(".as_dict()", said)
    trial = Decoder(encoder.arrays.__getitem__, lambda module: True, dict(encoder.classes), loaded=True)
    _called(encoder, value, "as_dict()", lambda: _check_markers(trial, said))
    again = _called(encoder, value, "from_dict()", lambda: cls.from_dict(copy.deepcopy(said)))
    if type(again) is not cls or encoder.inside(" made again", again.as_dict()) != plain:
        why = f"is a {_shown(cls)} that its from_dict(as_dict()) does not give back exactly"
        raise encoder.refuse(value, "give what it is made of, or say how by ms.values.register(...)", why)
    return {"@": "msonable", "class": name, "value": plain}


def _called(encoder: Encoder, value: Any, what: str, call: Callable[[], Any]) -> Any:
    """Call code of others, whose failure is a refusal."""
    try:
        return call()
    except Exception as error:
        why = f"is a {_shown(type(value))} whose {what} failed ({type(error).__name__}: {error})"
        raise encoder.refuse(value, "give what it is made of, or say how by ms.values.register(...)", why) from error


# -- numpy -----------------------------------------------------------------------------------------


def _numpy(encoder: Encoder, value: Any) -> Any:
    import numpy as np

    if type(value) is np.ndarray:
        return _array(encoder, value)
    return _scalar(encoder, value) if isinstance(value, np.generic) else None


def _scalar(encoder: Encoder, value: Any) -> Any:
    import numpy as np

    array = np.asarray(value)
    plain = _array(encoder, array)
    if isinstance(value, (str, bytes)) and array[()] != value:
        raise encoder.refuse(value, f"use {type(array.item()).__name__}(...)", "is a text of numpy that ends in zeros")
    del plain["shape"]
    return {**plain, "@": "scalar"}


def _array(encoder: Encoder, array: Any) -> dict[str, Any]:
    import base64

    import numpy as np

    dtype = array.dtype
    if dtype.hasobject or dtype.metadata:
        raise encoder.refuse(array, "use .tolist(), or an array of numbers", f"is an array of the type {dtype!r}")
    described = _listed(np.lib.format.dtype_to_descr(dtype))
    if _dtype(described) != dtype:
        raise encoder.refuse(array, "convert it by .astype(...)", f"is an array of the type {dtype!r}")
    plain: dict[str, Any] = {"@": "array", "dtype": described, "shape": list(array.shape)}
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        plain["order"] = "F"
    if array.size > MOST_INLINE or array.nbytes > _INLINE_BYTES:
        plain["file"] = encoder.array_file(array)
        return plain
    numbers = _numbers(array)
    if numbers is not None and _equal_arrays(_from_numbers(numbers, dtype, array.shape), array):
        plain["values"] = numbers
        return plain
    content = array.tobytes()
    if not _equal_arrays(_from_bytes(content, dtype, array.shape), array):
        raise encoder.refuse(array, "convert it by .astype(...)", f"is an array of the type {dtype!r}")
    plain["base64"] = base64.b64encode(content).decode()
    return plain


def _listed(descr: Any) -> Any:
    return [_listed(part) for part in descr] if isinstance(descr, (list, tuple)) else descr


def _numbers(array: Any) -> Any:
    """Return an array as nested lists that JSON holds; None where it has to be written as bytes."""
    import numpy as np

    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind not in _READABLE or (kind == "f" and size > 8) or (kind == "c" and size > 16):
        return None
    if kind == "c":
        array = np.ascontiguousarray(array).reshape(-1).view(_part(array.dtype)).reshape((*array.shape, 2))
    elif kind in "mM":
        array = np.ascontiguousarray(array).view(_part(array.dtype)).reshape(array.shape)
    elif kind == "U" and not _is_text("".join(array.ravel().tolist())):
        return None
    plain = array.tolist()
    return _with_words(plain) if kind in "fc" and not np.isfinite(array).all() else plain


def _with_words(numbers: Any) -> Any:
    """Return nested lists with "nan" and "inf" in place of what JSON does not have."""
    if isinstance(numbers, list):
        return [_with_words(part) for part in numbers]
    return numbers if _is_finite(numbers) else repr(numbers)


def _part(dtype: Any) -> Any:
    """Return the type of the two parts of a complex number, or of the whole number behind a time."""
    import numpy as np

    code = f"f{dtype.itemsize // 2}" if dtype.kind == "c" else "i8"
    return np.dtype(code).newbyteorder(dtype.byteorder)


def _from_numbers(numbers: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    import numpy as np

    if dtype.kind == "c":
        return np.array(numbers, _part(dtype)).reshape(-1).view(dtype).reshape(shape)
    if dtype.kind in "mM":
        return np.array(numbers, _part(dtype)).reshape(-1).view(dtype).reshape(shape)
    return np.array(numbers, dtype).reshape(shape)


def _from_bytes(content: bytes, dtype: Any, shape: tuple[int, ...]) -> Any:
    import numpy as np

    if not dtype.itemsize or not content:
        return np.zeros(shape, dtype)
    return np.frombuffer(content, dtype).reshape(shape).copy()


def _equal_arrays(one: Any, other: Any) -> bool:
    return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())


def _dtype(described: Any) -> Any:
    """Return a type of numpy from its description; ValueError where it is none of numbers, texts, times or bytes."""
    import numpy as np

    if isinstance(described, str) and _matches(_SIMPLE_DTYPE, described):
        return np.dtype(described)
    if not isinstance(described, list):
        raise ValueError(f"{described!r:.80} is no type of numbers")
    return np.lib.format.descr_to_dtype([_field(*field) for field in described])


def _field(name: Any, described: Any, shape: Any = None) -> tuple[Any, ...]:
    import numpy as np

    inner = described if isinstance(described, str) else np.lib.format.dtype_to_descr(_dtype(described))
    if isinstance(inner, str) and not _matches(_SIMPLE_DTYPE, inner):
        raise ValueError(f"{inner!r:.80} is no type of numbers")
    name = tuple(name) if isinstance(name, list) else name
    return (name, inner) if shape is None else (name, inner, tuple(shape))


# -- pandas ----------------------------------------------------------------------------------------


def _pandas(encoder: Encoder, value: Any) -> Any:
    plain = _pandas_plain(encoder, value)
    if plain is None or plain["@"] == "missing":
        return plain
    decoder = Decoder(encoder.arrays.__getitem__, allows=lambda module: True, loaded=True)
    again = _called(encoder, value, "way back", lambda: decoder.decode(plain))
    if _pandas_plain(encoder, again) != plain:
        why = f"is a {_shown(type(value))} that pandas does not give back exactly"
        raise encoder.refuse(value, "convert it by .astype(...)", why)
    return plain


def _pandas_plain(encoder: Encoder, value: Any) -> Any:
    import pandas as pd

    cls = type(value)
    if value is pd.NaT or value is pd.NA:
        return {"@": "missing", "name": "NaT" if value is pd.NaT else "NA"}
    if cls is pd.Timestamp or cls is pd.Timedelta:
        plain = {"@": "timestamp" if cls is pd.Timestamp else "timedelta64", "value": _scalar(encoder, value.asm8)}
        if getattr(value, "tzinfo", None) is not None:
            plain["zone"] = _zone_of(encoder, value)
        return plain
    if cls is pd.Series:
        labels = {"index": _index(encoder, value.index), "name": encoder.inside(".name", value.name)}
        return {"@": "series", **labels, **_labels(encoder, value), "data": _column(encoder, value)}
    if cls is pd.DataFrame:
        data = []
        for number in range(value.shape[1]):
            with encoder.at(f".iloc[:, {number}]"):
                data.append(_column(encoder, value.iloc[:, number]))
        labels = {"index": _index(encoder, value.index), "columns": _index(encoder, value.columns)}
        return {"@": "dataframe", **labels, **_labels(encoder, value), "data": data}
    if isinstance(value, pd.Index) and cls.__module__.partition(".")[0] == "pandas":
        return _index(encoder, value)
    return None


def _labels(encoder: Encoder, value: Any) -> dict[str, Any]:
    if not value.flags.allows_duplicate_labels:
        raise encoder.refuse(value, "use .set_flags(allows_duplicate_labels=True)", "does not allow duplicate labels")
    return {"attrs": encoder.inside(".attrs", dict(value.attrs))} if value.attrs else {}


def _index(encoder: Encoder, index: Any) -> dict[str, Any]:
    import pandas as pd

    names = encoder.inside(".names", list(index.names))
    if type(index) is pd.RangeIndex:
        return {"@": "index", "range": [index.start, index.stop, index.step], "names": names}
    if type(index) is pd.MultiIndex:
        levels = [_index(encoder, level) for level in index.levels]
        codes = [_array(encoder, code) for code in index.codes]
        return {"@": "index", "levels": levels, "codes": codes, "names": names}
    plain = {"@": "index", "data": _column(encoder, index), "names": names}
    freq = None if isinstance(index, pd.PeriodIndex) else getattr(index, "freq", None)
    if freq is not None:
        plain["freq"] = freq.freqstr
    return plain


def _column(encoder: Encoder, labelled: Any) -> dict[str, Any]:
    """Write the values of a Series or an Index by their type."""
    import numpy as np
    import pandas as pd

    dtype, array = labelled.dtype, labelled.array
    if isinstance(dtype, np.dtype):
        values = labelled.to_numpy()
        return {"objects": encoder.items(values)} if dtype.hasobject else _array(encoder, values)
    if isinstance(dtype, pd.CategoricalDtype):
        categories = _index(encoder, dtype.categories)
        return {"categories": categories, "codes": _array(encoder, array.codes), "ordered": bool(dtype.ordered)}
    if isinstance(dtype, pd.DatetimeTZDtype):
        utc = np.asarray(array.tz_convert("UTC").tz_localize(None))
        return {"utc": _array(encoder, utc), "zone": _zone_of(encoder, array)}
    if isinstance(dtype, pd.PeriodDtype):
        return {"ordinals": _array(encoder, array.asi8), "freq": dtype.name[len("period[") : -1]}
    if isinstance(dtype, pd.IntervalDtype):
        ends = {side: _index(encoder, getattr(array, side)) for side in ("left", "right")}
        return {**ends, "closed": dtype.closed}
    missing = np.asarray(array.isna())
    if isinstance(dtype, pd.StringDtype):
        texts = [None if gone else _text(encoder, text) for gone, text in zip(missing, array)]
        return {"texts": texts, "storage": dtype.storage, "na": repr(getattr(dtype, "na_value", pd.NA))}
    if isinstance(array, (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray)):
        values = array.to_numpy(dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
        return {"masked": _array(encoder, values), "missing": _array(encoder, missing)}
    why = f"has the type {dtype}, which cannot be written down exactly"
    raise encoder.refuse(array, "convert it by .astype(...)", why)


# -- ASE -------------------------------------------------------------------------------------------

_ATOMS_HOLDS = frozenset({"_cellobj", "_pbc", "arrays", "info", "_celldisp", "_constraints", "_calc", "constraints"})


def _ase(encoder: Encoder, value: Any) -> Any:
    cls = type(value)
    if cls.__name__ == "Atoms" and cls.__module__ == "ase.atoms":
        return _atoms(encoder, value)
    if cls.__name__ == "Cell" and cls.__module__ == "ase.cell":
        return {"@": "cell", "array": _array(encoder, value.array)}
    if cls.__name__ == "Spacegroup":
        return _spacegroup(encoder, value)
    return None


def _atoms(encoder: Encoder, atoms: Any) -> dict[str, Any]:
    for name in vars(atoms):
        if name not in _ATOMS_HOLDS:
            with encoder.at(f".{name}"):
                way_out = f"keep it in atoms.info[{name!r}]"
                raise encoder.refuse(getattr(atoms, name), way_out, "is an attribute that Atoms do not have")
    plain: dict[str, Any] = {
        "@": "atoms",
        "arrays": {name: encoder.inside(f".arrays[{name!r}]", array) for name, array in atoms.arrays.items()},
        "cell": _array(encoder, atoms.cell.array),
        "pbc": [bool(periodic) for periodic in atoms.pbc],
    }
    celldisp = atoms.get_celldisp()
    if celldisp.any():
        plain["celldisp"] = _array(encoder, celldisp)
    for number, constraint in enumerate(atoms.constraints):
        with encoder.at(f".constraints[{number}]"):
            plain.setdefault("constraints", []).append(_constraint(encoder, constraint))
    if atoms.info:
        plain["info"] = encoder.inside(".info", atoms.info)
    results = _results(encoder, atoms)
    if results:
        plain["results"] = encoder.inside(".calc.results", results)
        plain["calculator"] = str(getattr(atoms.calc, "name", None) or "unknown")
    return plain


def _results(encoder: Encoder, atoms: Any) -> dict[str, Any]:
    """Return what the calculator of atoms has found for them as they are; what it found before they moved is left."""
    calculator = atoms.calc
    results = getattr(calculator, "results", None)
    if not results:
        return {}
    moved = getattr(calculator, "atoms", None) is not None and hasattr(calculator, "check_state")
    if moved and _called(encoder, atoms, "calculator's check_state()", lambda: calculator.check_state(atoms)):
        return {}
    return dict(results)


def _constraint(encoder: Encoder, constraint: Any) -> Any:
    import copy

    import ase.constraints

    cls = type(constraint)
    if getattr(ase.constraints, cls.__name__, None) is not cls:
        raise encoder.refuse(constraint, "use one of ase.constraints")
    said = _called(encoder, constraint, "todict()", constraint.todict)
    again = _called(
        encoder, constraint, "dict2constraint", lambda: ase.constraints.dict2constraint(copy.deepcopy(said))
    )
    plain = {"name": cls.__name__, "kwargs": encoder.fields(said["kwargs"])}
    # What ASE's own dictionary leaves out, or makes anew in other last digits.
    depth = len(encoder.path)
    try:
        state = _differing(encoder, vars(constraint), vars(again))
    except NotWritableError:  # what it makes for itself as it works
        del encoder.path[depth:]
        if encoder.fields(again.todict()["kwargs"]) != plain["kwargs"]:
            raise
        return plain
    return {**plain, "state": state} if state else plain


def _differing(encoder: Encoder, held: Mapping[str, Any], again: Mapping[str, Any]) -> dict[str, Any]:
    if set(held) != set(again):
        raise encoder.refuse(held, "use one of ase.constraints", "has attributes that ASE does not give back")
    one, other = encoder.fields(held), encoder.fields(again)
    return {name: one[name] for name in one if one[name] != other[name]}


def _spacegroup(encoder: Encoder, value: Any) -> Any:
    plain = {"@": "spacegroup", "number": int(value.no), "setting": int(value.setting)}
    again = _called(encoder, value, "way back", lambda: type(value)(plain["number"], plain["setting"]))
    if encoder.fields(vars(again)) != encoder.fields(vars(value)):
        raise encoder.refuse(value, "give its number", "is a spacegroup that is not in the tables of ASE")
    return plain


_LIBRARIES: dict[str, Callable[[Encoder, Any], Any]] = {
    "collections": _special_dict,
    "datetime": _time,
    "pathlib": _path,
    "zoneinfo": _zone,
    "numpy": _numpy,
    "pandas": _pandas,
    "ase": _ase,
}


# -- reading ---------------------------------------------------------------------------------------


class Decoder:
    """Plain JSON data to the values that they stand for.

    Parameters
    ----------
    fetch : callable
        Returns the content of an array's file by its name, ``<SHA-256>.npy``.
    allows : callable
        Whether a module may be imported to find a class of it, by its full name. Python's own kinds, numpy, pandas
        and ASE are made here, and not asked for.
    classes : mapping of str to type
        Classes by their names, as ``"__main__:Cell"``.
    special : mapping of str to callable
        Kinds of the caller's own: from the JSON object to the value that it stands for. They are asked first.
    loaded : bool
        Whether also the classes of modules that are imported already may be used.
    """

    def __init__(
        self,
        fetch: Callable[[str], bytes],
        allows: Callable[[str], bool],
        classes: Mapping[str, type] | None = None,
        special: Mapping[str, Callable[[dict[str, Any]], Any]] | None = None,
        *,
        loaded: bool = False,
    ) -> None:
        self._fetch = fetch
        self._allows = allows
        self._classes = dict(classes or {})
        self._special = dict(special or {})
        self._loaded = loaded
        self.path: list[Any] = ["value"]

    def decode(self, plain: Any, where: str = "value") -> Any:
        """Return the value that JSON data stands for.

        Parameters
        ----------
        plain : object
            As `Encoder.encode` returned it.
        where : str
            What the value is called in errors.

        Raises
        ------
        NotReadableError
            Whatever is wrong with it; nothing that may not be imported was.

        Examples
        --------
        >>> Decoder(fetch=lambda name: b"", allows=lambda module: False).decode({"@": "tuple", "items": [1, 2.5]})
        (1, 2.5)
        """
        self.path = [where]
        try:
            return self._value(plain)
        except NotReadableError:
            raise
        except (Exception, SystemExit) as error:  # data and libraries of others fail in every way
            raise self.refuse(f"{type(error).__name__}: {error!s:.300}") from error

    def refuse(self, why: str) -> NotReadableError:
        """Return the error that says which part cannot be read."""
        path = self.path if len(self.path) < 20 else [*self.path[:19], "..."]
        return NotReadableError(f"{_place(path)} cannot be read: {why}")

    def _value(self, plain: Any) -> Any:
        kind = type(plain)
        if plain is None or kind in (bool, int, float, str):
            return plain
        if kind is list:
            return self.items(plain)
        if kind is not dict:
            raise self.refuse(f"a {_shown(kind)} is no JSON")
        if "@" not in plain:
            return self.fields(plain)
        name = plain["@"]
        if not isinstance(name, str):
            raise self.refuse("its kind is no text")
        if name in self._special:
            return self._special[name](plain)
        read = _READERS.get(name)
        if read is None:
            raise self.refuse(f"{name!r:.60} is no kind of value that is known here")
        return read(self, plain)

    def inside(self, step: Any, plain: Any) -> Any:
        """Decode a part; the step is as `_place` shows it."""
        self.path.append(step)
        if len(self.path) > 2 * MAX_DEPTH:
            raise self.refuse(f"it is nested deeper than {MAX_DEPTH} levels")
        value = self._value(plain)
        self.path.pop()
        return value

    def items(self, plain: Any) -> list[Any]:
        """Decode a list."""
        self.check(plain, list)
        return [self.inside((number,), item) for number, item in enumerate(plain)]

    def fields(self, plain: Any) -> dict[str, Any]:
        """Decode the values of a JSON object."""
        self.check(plain, dict)
        return {name: self.inside((name,), item) for name, item in plain.items()}

    def check(self, plain: Any, *kinds: type) -> Any:
        """Return a part as it is, if it is of one of these kinds."""
        if type(plain) not in kinds:
            raise self.refuse(f"there is {plain!r:.60} in place of {' or '.join(kind.__name__ for kind in kinds)}")
        return plain

    def found_class(self, plain: Any) -> type:
        """Return a class by its name, importing its module only if that is allowed."""
        name = self.check(plain, str)
        if name in self._classes:
            return self._classes[name]
        if not _matches(_CLASS_NAME, name) or len(name) > 500:
            raise self.refuse(f"{name!r:.80} is no name of a class")
        module = name.partition(":")[0]
        found = _loaded_class(name) if self._loaded else None
        if found is None:
            if not self._allows(module):
                raise self.refuse(f"its class {name} is not known here, and {module} may not be imported for it")
            if any(part.startswith("_") for part in module.split(".")):
                raise self.refuse(f"its class {name} is not known here, and {module} is not to be imported")
            import importlib

            importlib.import_module(module)
            found = _loaded_class(name)
        if found is None:
            raise self.refuse(f"there is no class {name} here")
        cls: type = found
        return cls

    def array(self, plain: Any) -> Any:
        """Decode an array of numpy."""
        self.check(plain, dict)
        if plain.get("@") != "array":
            raise self.refuse("there is no array")
        return _read_array(self, plain)

    def content(self, plain: Any) -> bytes:
        """Return the content of an array's file, whose sum is right."""
        import hashlib

        name = self.check(plain, str)
        if not _matches(_ARRAY_FILE, name):
            raise self.refuse(f"{name!r:.80} is no name of an array's file")
        content = self._fetch(name)
        if f"{hashlib.sha256(content).hexdigest()}.npy" != name:
            raise self.refuse(f"{name} has another content than when it was written")
        return content


def _read_int(decoder: Decoder, plain: dict[str, Any]) -> int:
    return int(decoder.check(plain["hex"], str), 16)


def _read_float(decoder: Decoder, plain: dict[str, Any]) -> float:
    import struct

    if "bits" in plain:
        return float(struct.unpack(">d", bytes.fromhex(plain["bits"]))[0])
    if plain["value"] not in ("nan", "inf", "-inf"):
        raise decoder.refuse(f"{plain['value']!r:.60} is no number")
    return float(plain["value"])


def _read_complex(decoder: Decoder, plain: dict[str, Any]) -> complex:
    parts = [decoder.inside(f".{part}", plain[part]) for part in ("real", "imag")]
    return complex(*[decoder.check(part, float) for part in parts])


def _read_text(decoder: Decoder, plain: dict[str, Any]) -> str:
    return bytes.fromhex(plain["utf8"]).decode("utf-8", "surrogatepass")


def _read_bytes(decoder: Decoder, plain: dict[str, Any]) -> bytes:
    import base64

    if "array" in plain:
        content: bytes = decoder.array(plain["array"]).tobytes()
        return content
    return base64.b64decode(decoder.check(plain["base64"], str), validate=True)


def _read_tuple(decoder: Decoder, plain: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(decoder.items(plain["items"]))


def _read_set(decoder: Decoder, plain: dict[str, Any]) -> Any:
    items = decoder.items(plain["items"])
    found = set(items) if plain["@"] == "set" else frozenset(items)
    if len(found) != len(items):
        raise decoder.refuse("an item appears in it twice")
    return found


def _read_dict(decoder: Decoder, plain: dict[str, Any]) -> Any:
    import collections

    pairs = [decoder.check(pair, list) for pair in decoder.check(plain["items"], list)]
    made: Any
    if plain["@"] == "defaultdict":
        name = plain["default"]
        if name is not None and name not in _FACTORIES:
            raise decoder.refuse(f"{name!r:.60} makes no missing items")
        made = collections.defaultdict(None if name is None else _FACTORIES[name])
    else:
        made = {"dict": dict, "OrderedDict": collections.OrderedDict, "Counter": collections.Counter}[plain["@"]]()
    for number, (key, item) in enumerate(pairs):
        key = decoder.inside((number, True), key)
        made[key] = decoder.inside((key,), item)
    if len(made) != len(pairs):
        raise decoder.refuse("a key appears in it twice")
    return made


def _read_moment(decoder: Decoder, plain: dict[str, Any]) -> Any:
    import datetime

    kinds: dict[str, Any] = {"datetime": datetime.datetime, "date": datetime.date, "time": datetime.time}
    moment = kinds[plain["@"]].fromisoformat(decoder.check(plain["iso"], str))
    if plain["@"] == "date":
        return moment
    return moment.replace(tzinfo=_read_tz(decoder, plain.get("zone")), fold=plain.get("fold", 0))


def _read_tz(decoder: Decoder, plain: Any) -> Any:
    import datetime

    zone = decoder.inside(".tzinfo", plain)
    if zone is not None and not isinstance(zone, datetime.tzinfo):
        raise decoder.refuse("there is no time zone")
    return zone


def _read_timezone(decoder: Decoder, plain: dict[str, Any]) -> datetime.timezone:
    import datetime

    offset = decoder.inside(".offset", plain["offset"])
    return datetime.timezone(offset, *([decoder.inside(".name", plain["name"])] if "name" in plain else []))


def _read_zone(decoder: Decoder, plain: dict[str, Any]) -> zoneinfo.ZoneInfo:
    import zoneinfo

    return zoneinfo.ZoneInfo(decoder.check(plain["key"], str))


def _read_timedelta(decoder: Decoder, plain: dict[str, Any]) -> datetime.timedelta:
    import datetime

    parts = {name: decoder.check(plain[name], int) for name in ("days", "seconds", "microseconds")}
    return datetime.timedelta(**parts)


def _read_path(decoder: Decoder, plain: dict[str, Any]) -> Any:
    import pathlib

    name = decoder.check(plain["class"], str)
    if name not in _PATHS:
        raise decoder.refuse(f"{name!r:.60} is no class of paths")
    return getattr(pathlib, name)(decoder.inside(".path", plain["path"]))


def _read_enum(decoder: Decoder, plain: dict[str, Any]) -> Any:
    import enum

    cls = decoder.found_class(plain["class"])
    if not issubclass(cls, enum.Enum):
        raise decoder.refuse(f"{plain['class']} is no Enum")
    if "name" in plain:
        return cls.__members__[plain["name"]]
    if not issubclass(cls, enum.Flag):
        raise decoder.refuse(f"{plain['class']} is no Flag")
    return cls(decoder.check(plain["value"], int))


def _read_dataclass(decoder: Decoder, plain: dict[str, Any]) -> Any:
    cls = decoder.found_class(plain["class"])
    if not _is_dataclass(cls):
        raise decoder.refuse(f"{plain['class']} is no dataclass")
    fields, more = decoder.fields(plain["fields"]), decoder.fields(plain.get("more", {}))
    _check_names(decoder, plain["class"], fields, [field.name for field in _fields_of(cls)])
    made: Any = object.__new__(cls)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    if more:
        vars(made).update(more)
    return made


def _check_names(decoder: Decoder, cls: str, fields: Mapping[str, Any], names: Iterable[str]) -> None:
    if set(fields) != set(names):
        other = ", ".join(sorted(set(fields) ^ set(names)))
        raise decoder.refuse(f"{cls} has other fields here than where it was written ({other:.200})")


def _read_namedtuple(decoder: Decoder, plain: dict[str, Any]) -> Any:
    cls: Any = decoder.found_class(plain["class"])
    if not _is_namedtuple(cls):
        raise decoder.refuse(f"{plain['class']} is no named tuple")
    fields = decoder.fields(plain["fields"])
    _check_names(decoder, plain["class"], fields, cls._fields)
    return tuple.__new__(cls, [fields[name] for name in cls._fields])


def _read_registered(decoder: Decoder, plain: dict[str, Any]) -> Any:
    kind = _REGISTERED.get(decoder.check(plain["class"], str))
    cls = decoder.found_class(plain["class"])
    if kind is None or kind.cls is not cls:
        kind = _REGISTERED.get(name_of(cls))
    if kind is None or kind.cls is not cls:
        raise decoder.refuse(f"{plain['class']} is not registered here: ms.values.register(...) says how it is read")
    return kind.from_plain(decoder.inside(" as registered", plain["value"]))


def _read_msonable(decoder: Decoder, plain: dict[str, Any]) -> Any:
    cls: Any = decoder.found_class(plain["class"])
    if not _is_msonable(cls):
        raise decoder.refuse(f"{plain['class']} has no from_dict")
    said = decoder.inside(".as_dict()", decoder.check(plain["value"], dict))
    decoder.check(said, dict)
    _check_markers(decoder, said)
    return cls.from_dict(said)


def _is_for_monty(said: Any) -> bool:
    if isinstance(said, (type(None), bool, int, float, complex, str, bytes)):
        return True
    if isinstance(said, (_loaded("enum", "Enum"), _loaded("datetime", "datetime"))):
        return True
    return type(said).__module__ == "numpy" or _is_msonable(type(said))


def _markers(said: Any) -> Iterator[str]:
    """Yield the classes that a dictionary of as_dict names, at every depth.

    Behind from_dict stands monty, which imports and calls whatever it meets. So what it would not be given by a class
    that is plain data is a ValueError: functions, and what it parses again from text.
    """
    if _is_dataclass(said):
        said = vars(said)
    if isinstance(said, dict):
        if "@callable" in said or "@bound" in said:
            raise ValueError("it asks for a function to be imported")
        if "@module" in said or "@class" in said:
            module, name = said.get("@module"), said.get("@class")
            if (module, name) != ("numpy", "array"):  # monty makes these itself
                yield f"{module}:{name}"
        said = [*said.keys(), *said.values()]
    if isinstance(said, (list, tuple, set, frozenset)):
        for item in said:
            yield from _markers(item)
    elif not _is_for_monty(said):
        raise ValueError(f"a {_shown(type(said))} is not given to from_dict")


_PARSED_BY_MONTY = frozenset({"pandas", "torch", "pint", "bson"})


def _check_markers(decoder: Decoder, said: Any) -> None:
    for name in _markers(said):
        if name.partition(":")[0].partition(".")[0] in _PARSED_BY_MONTY:
            raise decoder.refuse(f"{name} is not made by from_dict")
        cls = decoder.found_class(name)
        if not (_is_msonable(cls) or issubclass(cls, enum.Enum) or _is_dataclass(cls)):
            raise decoder.refuse(f"{name} has no from_dict")


def _read_array(decoder: Decoder, plain: dict[str, Any]) -> Any:
    import base64
    import math

    import numpy as np

    dtype = _dtype(plain["dtype"])
    shape = tuple(decoder.check(size, int) for size in decoder.check(plain.get("shape", []), list))
    if dtype.hasobject or dtype.subdtype or min(shape, default=0) < 0:
        raise decoder.refuse(f"it is no array of numbers: {dtype}, {shape}")
    bytes_ = math.prod(shape) * dtype.itemsize
    if "file" in plain:
        content = decoder.content(plain["file"])
        if not 0 <= len(content) - bytes_ <= _HEADER_BYTES:
            raise decoder.refuse(f"{plain['file']} is not as large as an array of {dtype}, {shape}")
        array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    elif math.prod(shape) > MOST_INLINE or bytes_ > _INLINE_BYTES:
        raise decoder.refuse("so large an array is written in a file of its own")
    elif "base64" in plain:
        array = _from_bytes(base64.b64decode(decoder.check(plain["base64"], str), validate=True), dtype, shape)
    else:
        array = _from_numbers(plain["values"], dtype, shape)
    if array.dtype != dtype or array.shape != shape:
        raise decoder.refuse(f"there is an array of {array.dtype}, {array.shape} in place of {dtype}, {shape}")
    return np.asfortranarray(array) if plain.get("order") == "F" else array


def _read_scalar(decoder: Decoder, plain: dict[str, Any]) -> Any:
    return _read_array(decoder, {**plain, "shape": []})[()]


def _read_missing(decoder: Decoder, plain: dict[str, Any]) -> Any:
    import pandas as pd

    return {"NaT": pd.NaT, "NA": pd.NA}[plain["name"]]


def _read_pandas_time(decoder: Decoder, plain: dict[str, Any]) -> Any:
    import pandas as pd

    value = _read_scalar(decoder, decoder.check(plain["value"], dict))
    if plain["@"] == "timedelta64":
        return pd.Timedelta(value)
    zone = _read_tz(decoder, plain.get("zone"))
    moment = pd.Timestamp(value)
    return moment if zone is None else moment.tz_localize("UTC").tz_convert(zone)


def _read_series(decoder: Decoder, plain: dict[str, Any]) -> Any:
    import pandas as pd

    index, name = _read_index(decoder, plain["index"]), decoder.inside(".name", plain["name"])
    data = _read_column(decoder, plain["data"])
    made: Any = pd.Series(data, dtype=data.dtype, index=index, name=name)
    made.attrs = decoder.fields(plain.get("attrs", {}))
    return made


def _read_dataframe(decoder: Decoder, plain: dict[str, Any]) -> Any:
    import pandas as pd

    index = _read_index(decoder, plain["index"])
    data = [_read_column(decoder, column) for column in decoder.check(plain["data"], list)]
    columns = [pd.Series(column, dtype=column.dtype, index=index) for column in data]
    made: Any = pd.DataFrame(dict(enumerate(columns)), index=index)
    made.columns = _read_index(decoder, plain["columns"])
    made.attrs = decoder.fields(plain.get("attrs", {}))
    return made


def _read_index(decoder: Decoder, plain: Any) -> Any:
    import pandas as pd

    decoder.check(plain, dict)
    names = decoder.items(plain["names"])
    if "range" in plain:
        made: Any = pd.RangeIndex(*[decoder.check(end, int) for end in plain["range"]])
    elif "levels" in plain:
        levels = [_read_index(decoder, level) for level in decoder.check(plain["levels"], list)]
        codes = [decoder.array(code) for code in decoder.check(plain["codes"], list)]
        made = pd.MultiIndex(levels=levels, codes=codes)
    else:
        column = _read_column(decoder, plain["data"])
        made = pd.Index(column, dtype=column.dtype)
        if "freq" in plain:
            made.freq = pd.tseries.frequencies.to_offset(decoder.check(plain["freq"], str))
    made.names = names
    return made


def _read_column(decoder: Decoder, plain: Any) -> Any:
    import numpy as np
    import pandas as pd

    decoder.check(plain, dict)
    if "objects" in plain:
        items = decoder.items(plain["objects"])
        made: Any = np.empty(len(items), object)
        for number, item in enumerate(items):
            made[number] = item
        return made
    if "categories" in plain:
        codes, ordered = decoder.array(plain["codes"]), decoder.check(plain["ordered"], bool)
        return pd.Categorical.from_codes(codes, categories=_read_index(decoder, plain["categories"]), ordered=ordered)
    if "utc" in plain:
        moments = pd.DatetimeIndex(decoder.array(plain["utc"])).tz_localize("UTC")
        return moments.tz_convert(_read_tz(decoder, plain["zone"])).array
    if "ordinals" in plain:
        index: Any = pd.PeriodIndex
        freq = decoder.check(plain["freq"], str)
        return index.from_ordinals(decoder.array(plain["ordinals"]), freq=freq).array
    if "closed" in plain:
        ends = [_read_index(decoder, plain[side]) for side in ("left", "right")]
        return pd.arrays.IntervalArray.from_arrays(ends[0], ends[1], closed=plain["closed"])
    if "texts" in plain:
        return _read_texts(decoder, plain)
    if "masked" in plain:
        values, missing = decoder.array(plain["masked"]), decoder.array(plain["missing"])
        kinds = {"b": pd.arrays.BooleanArray, "f": pd.arrays.FloatingArray}
        return kinds.get(values.dtype.kind, pd.arrays.IntegerArray)(values, missing)
    return decoder.array(plain)


def _read_texts(decoder: Decoder, plain: dict[str, Any]) -> Any:
    import pandas as pd

    texts = [None if text is None else decoder.check(text, str) for text in decoder.items(plain["texts"])]
    make: Any = pd.StringDtype  # before pandas 2.3 it has no na_value
    missing = {"nan": {"na_value": float("nan")}, "<NA>": {}}[plain["na"]]
    return pd.array(texts, dtype=make(decoder.check(plain["storage"], str), **missing))


def _read_atoms(decoder: Decoder, plain: dict[str, Any]) -> Any:
    import ase
    import numpy as np
    from ase.calculators.singlepoint import SinglePointCalculator

    arrays = decoder.fields(plain["arrays"])
    for name in ("numbers", "positions"):
        if type(arrays.get(name)) is not np.ndarray:
            raise decoder.refuse(f"atoms without {name}")
    for name, array in arrays.items():
        if type(array) is not np.ndarray or array.shape[:1] != (len(arrays["numbers"]),):
            raise decoder.refuse(f"{name!r:.60} does not have one row per atom")
    if arrays["positions"].shape[1:] != (3,) or arrays["numbers"].ndim != 1:
        raise decoder.refuse("positions must be three numbers per atom, and numbers one")
    info = decoder.check(decoder.inside(".info", plain.get("info", {})), dict)
    atoms: Any = ase.Atoms(
        numbers=arrays["numbers"],
        positions=arrays["positions"],
        cell=decoder.array(plain["cell"]),
        pbc=[decoder.check(periodic, bool) for periodic in decoder.check(plain["pbc"], list)],
        celldisp=decoder.array(plain["celldisp"]) if "celldisp" in plain else None,
        info=info,
    )
    atoms.arrays = arrays
    atoms.set_constraint([_read_constraint(decoder, one) for one in decoder.check(plain.get("constraints", []), list)])
    if "results" in plain:
        make: Any = SinglePointCalculator
        atoms.calc = make(atoms)
        atoms.calc.results = decoder.check(decoder.inside(".calc.results", plain["results"]), dict)
        atoms.calc.name = decoder.check(plain["calculator"], str)
    if "class" in plain:
        cls = decoder.found_class(plain["class"])
        if not issubclass(cls, ase.Atoms):
            raise decoder.refuse(f"{plain['class']} are no Atoms")
        atoms.__class__ = cls
    return atoms


def _read_constraint(decoder: Decoder, plain: Any) -> Any:
    import ase.constraints

    name = decoder.check(decoder.check(plain, dict)["name"], str)
    cls = getattr(ase.constraints, name, None) if name in ase.constraints.__all__ else None
    if not (isinstance(cls, type) and issubclass(cls, ase.constraints.FixConstraint)):
        raise decoder.refuse(f"{name!r:.60} is no constraint of ASE")
    made = ase.constraints.dict2constraint({"name": name, "kwargs": decoder.fields(plain["kwargs"])})
    state = decoder.fields(plain.get("state", {}))
    if not set(state) <= set(vars(made)):
        raise decoder.refuse(f"{name} has other attributes here than where it was written")
    vars(made).update(state)
    return made


def _read_cell(decoder: Decoder, plain: dict[str, Any]) -> Any:
    from ase.cell import Cell

    make: Any = Cell
    return make(decoder.array(plain["array"]))


def _read_spacegroup(decoder: Decoder, plain: dict[str, Any]) -> Any:
    from ase.spacegroup import Spacegroup

    return Spacegroup(decoder.check(plain["number"], int), decoder.check(plain["setting"], int))


_READERS: dict[str, Callable[[Decoder, dict[str, Any]], Any]] = {
    "int": _read_int,
    "float": _read_float,
    "complex": _read_complex,
    "str": _read_text,
    "bytes": _read_bytes,
    "tuple": _read_tuple,
    "set": _read_set,
    "frozenset": _read_set,
    "dict": _read_dict,
    "OrderedDict": _read_dict,
    "defaultdict": _read_dict,
    "Counter": _read_dict,
    "datetime": _read_moment,
    "date": _read_moment,
    "time": _read_moment,
    "timedelta": _read_timedelta,
    "timezone": _read_timezone,
    "zone": _read_zone,
    "path": _read_path,
    "enum": _read_enum,
    "dataclass": _read_dataclass,
    "namedtuple": _read_namedtuple,
    "registered": _read_registered,
    "msonable": _read_msonable,
    "array": _read_array,
    "scalar": _read_scalar,
    "missing": _read_missing,
    "timestamp": _read_pandas_time,
    "timedelta64": _read_pandas_time,
    "series": _read_series,
    "dataframe": _read_dataframe,
    "index": _read_index,
    "atoms": _read_atoms,
    "cell": _read_cell,
    "spacegroup": _read_spacegroup,
}


# -- JSON ------------------------------------------------------------------------------------------
# To import `json` takes a small call half of its start, nearly all of it for regular expressions around the parts in C,
# `_json`, which do the work. They are asked here as `json` asks them. Whatever they do not know, `json` does.


class _Scanning:
    """What `json.loads` tells the parser in C."""

    strict, object_hook, object_pairs_hook, parse_float, parse_int = True, None, None, float, int
    parse_constant = {"NaN": float("nan"), "Infinity": _INFINITY, "-Infinity": -_INFINITY}.__getitem__


def from_json(content: bytes) -> Any:
    """Return what `json.loads` returns, or raise what it raises."""
    try:
        import _json

        text = content.decode("utf-8", "surrogatepass")
        in_c: Any = _json
        data, end = in_c.make_scanner(_Scanning)(text, 0)
    except Exception:  # noqa: BLE001 - whatever it is, json says it
        end = -1
    if end >= 0 and end == len(text):
        return data
    import json

    return json.loads(content)


def to_json(data: Any) -> str:
    """Return what `json.dumps` returns without NaN, or raise what it raises."""
    try:
        import _json

        in_c: Any = _json
        encode = in_c.make_encoder({}, None, in_c.encode_basestring_ascii, None, ": ", ", ", False, False, False)
        return "".join(encode(data, 0))
    except Exception:  # noqa: BLE001 - whatever it is, json says it
        import json

        return json.dumps(data, allow_nan=False)


# -- files -----------------------------------------------------------------------------------------


def parse(content: bytes) -> dict[str, Any]:
    """Return the JSON object of a file that was written in this format.

    Raises
    ------
    NotReadableError
        It is no such file.
    """
    try:
        data = from_json(content)
    except (ValueError, RecursionError) as error:
        raise NotReadableError(f"it is no JSON: {type(error).__name__}: {error!s:.200}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT or type(data["format"]) is not int:
        raise NotReadableError(f"it is not written in format {FORMAT}")
    return data


def write_value(
    directory: str, value: Any, classes: Mapping[str, type] | None = None, where: str = "value"
) -> dict[str, bytes]:
    """Write what a function returned: large arrays, ``result.json``, and ``value.json`` last.

    Parameters
    ----------
    directory : str
        Of the attempt.
    value : object
    classes : mapping of str to type
        As of `Encoder`.
    where : str
        What the value is called in errors.

    Returns
    -------
    dict of bytes
        Of ``result.json`` and ``value.json``, what was written.

    Raises
    ------
    NotWritableError
        A part of it cannot be written exactly; nothing was written.
    """
    encoder = Encoder(classes=classes)
    text = to_json({"format": FORMAT, "value": encoder.encode(value, where)})
    if len(text) > MOST_JSON_BYTES:
        raise NotWritableError(f"{where} is {len(text)} bytes of JSON: put its numbers into arrays, or write a file")
    if encoder.arrays:
        os.makedirs(os.path.join(directory, "value"), exist_ok=True)
    for name, content in encoder.arrays.items():
        write_file(os.path.join(directory, "value", name), content)
    files = {"result.json": to_json(scalars(value)).encode(), "value.json": text.encode()}
    for name, content in files.items():
        write_file(os.path.join(directory, name), content)
    return files


def write_file(path: str, content: bytes) -> None:
    """Write a file so that it is whole, and on disk, under its name or not there."""
    folder, name = os.path.split(path)
    partial = os.path.join(folder, f".{name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        if os.path.lexists(partial):
            os.unlink(partial)
        raise


def scalars(value: Any) -> dict[str, Any]:
    """Return the numbers and short texts at the top of a value, as strict JSON, for tables.

    Parameters
    ----------
    value : object
        Of a dict with text for keys, or a dataclass, its items; a number or text alone is called ``value``.

    Returns
    -------
    dict
        At most 200; numbers that JSON does not have are None, and whole numbers of more than 64 bits are left out.

    Examples
    --------
    >>> scalars({"energy_eV": -3.4, "converged": True, "forces": [0.0, 0.1]})
    {'energy_eV': -3.4, 'converged': True}
    """
    if isinstance(value, dict):
        named = value
    elif _is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name, None) for field in _fields_of(value)}
    else:
        named = {"value": value}
    found: dict[str, Any] = {}
    for name, item in named.items():
        if type(name) is str and _is_text(name) and len(name) <= _MOST_CHARACTERS and len(found) < _MOST_SCALARS:
            number = item.item() if type(item).__module__ == "numpy" and getattr(item, "shape", None) == () else item
            if type(number) is float:
                found[name] = number if _is_finite(number) else None
            elif (type(number) is str and len(number) <= _MOST_CHARACTERS and _is_text(number)) or (
                type(number) in (bool, int) and -(2**63) <= number < 2**63
            ):
                found[name] = number
    return found
