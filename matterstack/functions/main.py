"""The other side of a call: reads its arguments, calls the function, and leaves what it returned.

This file is copied beside each task as ``matterstack_main.py``, and ``codec.py`` as ``matterstack_values.py``.
``task.py`` imports it first and calls `run` last. It imports nothing of MatterStack, and needs Python 3.9.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = os.path.join(HERE, "modules")
_LONGEST = 10_000  # characters of a message
_COMPLETED = "COMPLETED"
_MADE = os.path.join(".matterstack", "made.json")
#: Those that the source of the function imports.
_packages: list[str] = []


class NothingReturnedError(Exception):
    """The function ended the process in place of returning."""


class MissingValueError(LookupError):
    """What an argument refers to is not there."""


def _codec() -> Any:
    # By this name the codec lies beside the task; the package has it by another.
    return __import__("matterstack_values")


def run(function: Callable[..., Any], classes: Iterable[type] = (), packages: Iterable[str] = ()) -> None:
    """Call a function with the arguments of ``args.json``, and write what it returns to ``value.json``.

    Parameters
    ----------
    function : callable
    classes : iterable of type
        Those that ``task.py`` defines, and that arguments or the value may have objects of.
    packages : iterable of str
        Those that it imports: which versions there were is noted.
    """
    codec = _codec()
    _packages[:] = packages
    known = _by_name(classes)
    args, kwargs = _arguments(known)
    try:
        value = function(*args, **kwargs)
    except SystemExit as error:
        said = "" if error.code is None else repr(error.code)
        raise NothingReturnedError(
            f"{function.__name__} called sys.exit({said}), so that it returned nothing: let it return a value, or "
            "raise an exception that says what is wrong"
        ).with_traceback(error.__traceback__) from error
    _note_made(codec.write_value(HERE, value, known, f"{function.__name__}()"))


def constant(text: str, classes: Iterable[type] = ()) -> Any:
    """Return a constant of the module that the function comes from, from the text that it was written as.

    Parameters
    ----------
    text : str
        JSON, as `Encoder.encode` gave it.
    classes : iterable of type
        Those that ``task.py`` defines, and that it needs.
    """
    return _decoder(_by_name(classes), "args").decode(
        _codec().from_json(text.encode("utf-8", "surrogatepass")), "a constant"
    )


def register(cls: type, to_plain: Callable[[Any], Any], from_plain: Callable[[Any], Any]) -> None:
    """Say how objects of a class are written, and made again: what ``ms.values.register`` said where it was planned."""
    _codec().register(cls, to_plain, from_plain)


def _by_name(classes: Iterable[type]) -> dict[str, type]:
    return {f"{cls.__module__}:{cls.__qualname__}": cls for cls in classes}


def _read(*names: str) -> bytes:
    with open(os.path.join(HERE, *names), "rb") as file:
        return file.read()


def _decoder(classes: dict[str, type], *folder: str, special: Any = None) -> Any:
    # The task runs whatever code of the run it is given: here nothing is left to protect by asking what is imported.
    return _codec().Decoder(
        lambda name: _read(*folder, name), allows=lambda module: True, classes=classes, special=special, loaded=True
    )


def _arguments(classes: dict[str, type]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments, with what tasks before left in place of references."""
    call = _codec().parse(_read("args.json"))
    values: dict[str, Any] = {}
    try:
        inputs = _codec().from_json(_read("inputs.json"))
    except FileNotFoundError:
        inputs = {}

    def value_of(task: str) -> Any:
        before = inputs.get(task, {})
        if before.get("status", _COMPLETED) != _COMPLETED:
            return None
        if os.path.exists(os.path.join(HERE, "values", task, "value.json")):
            plain = _codec().parse(_read("values", task, "value.json"))["value"]
            return _decoder(classes, "values", task, "value").decode(plain, f"the value of {task}")
        if "data" not in before:
            raise MissingValueError(f"there is neither values/{task}/value.json nor data of {task} in inputs.json")
        return before["data"]

    def refer(plain: dict[str, Any]) -> Any:
        task, keys = plain["task"], _decoder(classes, "args").decode(plain["at"])
        if task not in values:
            values[task] = value_of(task)
        found, place = values[task], task
        for key in keys if found is not None else ():
            try:
                found = found[key]
            except (LookupError, TypeError) as error:
                raise MissingValueError(f"{place} has no item {key!r} ({type(error).__name__}: {error})") from error
            place += f"[{key!r}]"
        return found

    decoder = _decoder(classes, "args", special={"reference": refer})
    args = [decoder.decode(plain, f"argument {number}") for number, plain in enumerate(call["args"], 1)]
    return args, {name: decoder.decode(plain, f"argument {name}") for name, plain in call["kwargs"].items()}


# -- what it was made with -------------------------------------------------------------------------


def _note_made(files: dict[str, bytes]) -> None:
    """Note in ``made.json`` what the call ran in, and the hashes of what it left."""
    sha256 = _sha256()
    told: dict[str, Any] = {
        "host": os.uname().nodename if hasattr(os, "uname") else "",
        "python": sys.version.partition(" ")[0],
        "packages": {name: found for name in _packages if (found := _version(name))},
        "container": os.environ.get("APPTAINER_NAME") or os.environ.get("SINGULARITY_NAME") or "",
        "modules": os.environ.get("LOADEDMODULES", ""),
        "files": {name: [sha256(content).hexdigest(), len(content)] for name, content in files.items()},
    }
    try:
        os.makedirs(os.path.join(HERE, ".matterstack"), exist_ok=True)
        with open(os.path.join(HERE, _MADE), "wb") as file:
            file.write(_codec().to_json(told).encode())
    except OSError:
        pass  # a full disk is no reason to lose a value


def _sha256() -> Any:
    # OpenSSL, which hashlib loads, takes as long to load as all the rest of a short call.
    try:
        return __import__("_sha2" if sys.version_info >= (3, 12) else "_sha256").sha256
    except ImportError:  # a Python that leaves it to OpenSSL
        return __import__("hashlib").sha256


def _version(package: str) -> str:
    """Return the version of a package that was imported, from itself or from the name of its metadata."""
    module = sys.modules.get(package)
    if module is None:
        return ""
    said = vars(module).get("__version__")
    if isinstance(said, str):
        return said
    place = os.path.dirname(os.path.dirname(getattr(module, "__file__", None) or "x/x/x"))
    start = package.lower() + "-"
    try:
        names = os.listdir(place)
    except OSError:
        return ""
    found = [name for name in names if name.endswith(".dist-info") and name.lower().startswith(start)]
    return found[0][len(start) : -len(".dist-info")] if found else ""


# -- what goes wrong -------------------------------------------------------------------------------


def _is_own(filename: str) -> bool:
    path = os.path.abspath(filename)
    return path == os.path.join(HERE, "task.py") or path.startswith(MODULES + os.sep)


def describe(error: BaseException, trace: TracebackType | None) -> dict[str, Any]:
    """Return what ``error.json`` holds: the error, and the last line of the user's own that led to it."""
    try:
        message = str(error)
    except Exception as failed:  # noqa: BLE001 - a __str__ of the user's own
        message = f"its message cannot be shown ({type(failed).__name__})"
    told: dict[str, Any] = {"type": type(error).__name__, "message": message[:_LONGEST], "function": None, "line": None}
    told["text"] = ""
    import linecache
    import traceback

    steps = list(traceback.walk_tb(trace))
    own = [number for number, (frame, _) in enumerate(steps) if _is_own(frame.f_code.co_filename)]
    # Below the last lines of task.py lies this file, and what it does is no line of the user's.
    if own and not (own[-1] + 1 < len(steps) and steps[own[-1] + 1][0].f_code.co_filename == __file__):
        frame, line = steps[own[-1]]
        code = frame.f_code
        told["function"] = code.co_name
        told["line"] = line - code.co_firstlineno + 1 if code.co_name != "<module>" else line
        told["text"] = linecache.getline(code.co_filename, line).strip()[:_LONGEST]
    told["python"] = {"executable": sys.executable, "version": sys.version.partition(" ")[0]}
    return told


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write ``error.json``, then do as Python does."""
    partial = os.path.join(HERE, f".error.json.{os.getpid()}.partial")
    try:
        import json

        text = json.dumps(describe(error, trace), indent=1)
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.replace(partial, os.path.join(HERE, "error.json"))
        _note_made({})
    except OSError as failed:  # a full disk: stderr is left
        if os.path.lexists(partial):
            os.unlink(partial)
        sys.stderr.write(f"error.json could not be written: {failed}\n")
    begun = _from_users_line(trace)
    sys.__excepthook__(kind, error.with_traceback(begun), begun)


def _from_users_line(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the lines that only lead to the user's function."""
    begun, step = trace, trace
    while step is not None:
        if step.tb_frame.f_code.co_filename == __file__ and step.tb_next is not None:
            begun = step.tb_next
        step = step.tb_next
    return begun if begun is not None and _is_own(begun.tb_frame.f_code.co_filename) else trace


def begin() -> None:
    """Make ready for `run`: the user's modules are found, errors are told, and what an earlier run left is gone."""
    sys.path.insert(0, MODULES)
    sys.excepthook = _tell
    for name in ("value.json", "error.json", "result.json", _MADE):
        if os.path.lexists(os.path.join(HERE, name)):
            os.unlink(os.path.join(HERE, name))


if __name__ == "matterstack_main":  # beside a task, and not in the package
    begin()
