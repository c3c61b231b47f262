"""Source of a campaign that was written in a notebook or beside it, and the campaign made again from that."""

from __future__ import annotations

import hashlib
import json
import linecache
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from matterstack.errors import FunctionSourceError
from matterstack.functions import codec, installed
from matterstack.functions.definitions import is_own_class, stored_classes
from matterstack.functions.program import Program, with_riders

_HEAD = '''"""{name}, a campaign: MatterStack wrote it from the source of the class, and makes it again from that."""

from __future__ import annotations
'''


@dataclass(frozen=True)
class CampaignCode:
    """A campaign as text and data, from which it is made again in another process.

    Attributes
    ----------
    name : str
        Of the class in ``text``.
    text : str
        The class and all that it reaches, as Python; functions with the options of `ms.task`.
    data : str
        What the object holds, as JSON of the codec.
    modules : mapping of str to bytes
        The user's own modules that ride along: ``"modules/mylib.py"`` and its content.
    arrays : mapping of str to bytes
        Large arrays of constants and data: ``"<sha256>.npy"`` and its content.
    packages : tuple of str
        Top-level names of the installed packages that the code imports.
    classes : mapping of str to str
        The user's own classes: ``"module:qualname"``, and the expression in ``text``.
    """

    name: str
    text: str
    data: str
    modules: Mapping[str, bytes]
    arrays: Mapping[str, bytes]
    packages: tuple[str, ...]
    classes: Mapping[str, str]


def capture_campaign(campaign: Any) -> CampaignCode:
    """Return a campaign as text and data.

    Parameters
    ----------
    campaign : object
        Of a class that is written in a cell or in a module beside the notebook.

    Raises
    ------
    FunctionSourceError
        Its class, what that reaches, or what the object holds cannot be written down.
    """
    cls = type(campaign)
    if not is_own_class(cls):
        raise FunctionSourceError(
            f"{cls.__qualname__} is a class of the installed module {cls.__module__}: it is imported there, and has no "
            "source to store"
        )
    slots = [name for base in cls.__mro__ for name in vars(base).get("__slots__", ()) if name != "__dict__"]
    if slots:
        raise FunctionSourceError(f"{cls.__qualname__} keeps {slots[0]!r} in __slots__: keep it as a plain attribute")
    encoder = codec.Encoder(classes=stored_classes(cls))
    held: dict[str, Any] = {}
    for name, value in vars(campaign).items():
        try:
            held[name] = encoder.encode(value, f"{cls.__qualname__}.{name}")
        except codec.NotWritableError as error:
            raise FunctionSourceError(f"{error}; or make it inside of plan") from None

    def write(riders: frozenset[str]) -> CampaignCode:
        program = Program(riders, keeps_tasks=True)
        program.bind_class(cls)
        for other in encoder.classes.values():
            program.bind_class(other)
        text = "\n".join([_HEAD.format(name=cls.__qualname__), *program.finish()])
        state = program.state
        return CampaignCode(
            cls.__qualname__,
            text,
            json.dumps(held, ensure_ascii=False, allow_nan=False),
            program.modules,
            {**state.arrays, **encoder.arrays},
            tuple(sorted(state.packages)),
            dict(sorted(state.classes.items())),
        )

    return with_riders(write)


def rebuild_campaign(code: CampaignCode, folder: Path | None = None) -> Any:
    """Make a campaign again; this runs its source, so ask for trust before.

    Parameters
    ----------
    code : CampaignCode
    folder : pathlib.Path, optional
        Where ``code.modules`` were written, which then are imported from there.

    Returns
    -------
    Campaign
        What it plans, the source of its functions among it, is what the stored one would have planned.

    Raises
    ------
    FunctionSourceError
        A module that rides along is in use here with another content.
    """
    _make_importable(code, folder)
    module = _module(code)
    classes = vars(module)[installed.CLASSES]
    cls = _reached(module, code.name)
    campaign = cls.__new__(cls)
    decode = _decoder(code, classes).decode
    vars(campaign).update({name: decode(plain, name) for name, plain in json.loads(code.data).items()})
    return campaign


def _decoder(code: CampaignCode, classes: Mapping[str, type]) -> codec.Decoder:
    return codec.Decoder(lambda name: code.arrays[name], allows=lambda package: True, classes=classes)


def _reached(module: ModuleType, expression: str) -> Any:
    found: Any = module
    for name in expression.split("."):
        found = getattr(found, name)
    return found


def _make_importable(code: CampaignCode, folder: Path | None) -> None:
    if not code.modules:
        return
    for place, content in code.modules.items():
        name = place.removeprefix("modules/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        present = getattr(sys.modules.get(name), "__file__", None)
        if present is not None and Path(present).read_bytes() != content:
            raise FunctionSourceError(
                f"the campaign was stored with another {name} than the one in use here ({present}): step the run where "
                f"{name} has not been imported, or with open_run(..., campaign=)"
            )
    place = str(folder / "modules") if folder is not None else ""
    if place and place not in sys.path:
        sys.path.insert(0, place)


def _module(code: CampaignCode) -> ModuleType:
    """Return the module of a campaign's source: run once, and known to Python, so that its functions have a source."""
    digest = hashlib.sha256(code.text.encode()).hexdigest()
    name = f"{installed.REBUILT}{digest[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = f"<campaign {digest[:16]}>"
    lines = code.text.splitlines(keepends=True)
    linecache.cache[module.__file__] = (len(code.text), None, lines, module.__file__)

    def constant(text: str, classes: Iterable[type] = ()) -> Any:
        known = {f"{cls.__module__.replace(name, '__main__')}:{cls.__qualname__}": cls for cls in classes}
        return _decoder(code, known).decode(json.loads(text), "a constant")

    register: Callable[..., None] = codec.register
    vars(module)["matterstack_main"] = SimpleNamespace(constant=constant, register=register)
    sys.modules[name] = module
    try:
        exec(compile(code.text, module.__file__, "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    classes = {label: _reached(module, expression) for label, expression in code.classes.items()}
    vars(module)[installed.CLASSES] = classes
    for cls in classes.values():
        if cls.__module__ == name:
            cls.__module__ = "__main__"  # as it was, and as the names of its values say
    return module
