"""The program that a function or a class becomes: its text, as it grows from the names that are needed."""

from __future__ import annotations

import ast
import builtins
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any, TypeVar

from matterstack.errors import FunctionSourceError
from matterstack.functions import codec, installed
from matterstack.functions.definitions import (
    Definition,
    check_module,
    class_definition,
    function_definition,
    is_own_class,
    resolve,
    space_of,
    stored_classes,
)
from matterstack.functions.function import Function
from matterstack.functions.literals import literal_of, statement_of
from matterstack.functions.names import Names, names_of

#: Names that task.py has for itself.
_RESERVED = frozenset({"matterstack_main", "matterstack_values"})
#: What every module has, whatever is written in it.
_OF_EVERY_MODULE = frozenset(
    {"__name__", "__doc__", "__annotations__", "__builtins__", "__spec__", "__package__", "__loader__"}
)
_Key = tuple[str, str, str]
_T = TypeVar("_T")


class Rides(Exception):  # noqa: N818 - it is caught a few lines below, and means: once more, with this module as it is
    """A module has to ride along as it is."""

    def __init__(self, module: str) -> None:
        super().__init__(module)
        self.module = module


def with_riders(write: Callable[[frozenset[str]], _T]) -> _T:
    """Write a program; what turns out to be needed as a module is left out of the next try, and rides along."""
    riders: frozenset[str] = frozenset()
    while True:
        try:
            return write(riders)
        except Rides as more:
            riders |= {more.module}


@dataclass(frozen=True)
class _Owner:
    """Whose need it is, for messages; and in which module its names mean something."""

    name: str
    space: str
    text: str = ""

    def uses(self, name: str) -> str:
        """Return where a name is used, as in ``relax uses 'model' (line 3: return model(x))``."""
        tree = ast.parse(self.text)
        lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name]
        if not lines:
            return f"{self.name} uses {name!r}"
        start = next(node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef))
        begin = min(part.lineno for part in (*start.decorator_list, start))
        line = self.text.splitlines()[min(lines) - 1].strip()
        return f"{self.name} uses {name!r} (line {min(lines) - begin + 1}: {line})"


@dataclass
class _Part:
    """A definition in the program, or a constant that needs some; `names` are resolved by the program's bindings."""

    text: str
    binds: str
    names: Names
    aliases: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Binding:
    """How a name of the program gets its meaning: an import, a constant, or a part."""

    text: str
    part: _Key | None = None
    space: str = ""

    def means(self, other: _Binding) -> bool:
        return (self.text, self.part) == (other.text, other.part)


@dataclass
class _State:
    bindings: dict[str, _Binding] = field(default_factory=dict)
    parts: dict[_Key, _Part] = field(default_factory=dict)
    seen: dict[int, tuple[object, _Key]] = field(default_factory=dict)
    imports: dict[str, None] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    classes: dict[str, str] = field(default_factory=dict)
    annotated: list[tuple[str, object, _Owner]] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    undefined: dict[str, _Owner] = field(default_factory=dict)
    arrays: dict[str, bytes] = field(default_factory=dict)

    def copy(self) -> _State:
        twin = _State(**{name: type(value)(value) for name, value in vars(self).items()})
        twin.parts = {
            key: _Part(part.text, part.binds, part.names, list(part.aliases)) for key, part in self.parts.items()
        }
        return twin


class Program:
    """The text of a program as it grows from the names that are needed."""

    def __init__(self, riders: frozenset[str], *, keeps_tasks: bool = False) -> None:
        self.keeps_tasks = keeps_tasks  # `ms.task` and its options, for a campaign, which plans with them
        self.files, packages = installed.own_modules(riders)
        for name in self.files:
            check_module(sys.modules.get(name))
        self.state = _State(packages=packages)
        self.host = ""
        self.stored: Mapping[str, type] = {}

    def bind_function(self, function: Any) -> str:
        """Write a function down, and return its name in the text."""
        raw = self._undecorated(function) or inspect.unwrap(function)
        self.host = raw.__globals__.get("__name__", "")
        self.stored = stored_classes(raw)
        name: str = raw.__code__.co_name
        self._bind(name, function, _Owner(f"the task of {raw.__qualname__}", self.host))
        return name

    def bind_class(self, cls: type) -> str:
        """Write a class down, and return its name in the text."""
        if not self.host:
            self.host, self.stored = cls.__module__, stored_classes(cls)
        owner = _Owner(f"the class {cls.__qualname__}", self.host)
        self._bind_class(cls, owner)
        return cls.__qualname__

    def bind_registered(self) -> None:
        """Write down how values are written that a package makes which the program uses: a call may return them."""
        for cls in codec.registered_classes():
            if cls.__module__.partition(".")[0] in self.state.packages:
                self._register(cls, _Owner(f"the class {cls.__qualname__}", self.host))

    def finish(self) -> list[str]:
        """Return the lines of the text: imports, constants and definitions."""
        self._bind_annotated()
        self._refuse_undefined()
        return list(self._body())

    @property
    def modules(self) -> dict[str, bytes]:
        """What rides along: ``"modules/mylib.py"`` and its content."""
        return {installed.place_of(name, file): file.read_bytes() for name, file in sorted(self.files.items())}

    # -- names ----------------------------------------------------------------------------------

    def _bind(self, name: str, value: Any, owner: _Owner) -> None:
        """Let a name of the program mean this value."""
        if name in _RESERVED:
            raise FunctionSourceError(f"{owner.uses(name)}, a name that task.py has for itself: rename it")
        binding = self._binding(name, value, owner)
        known = self.state.bindings.setdefault(name, binding)
        if known.means(binding):
            return
        for space in (owner.space, known.space):
            if space != self.host and space not in self.files and _rideable(space):
                raise Rides(space)
        raise FunctionSourceError(
            f"{owner.uses(name)}, but in task.py the name means something else already: rename one of the two "
            f"(variables of the function around a function count as well)"
        )

    def _binding(self, name: str, value: Any, owner: _Owner) -> _Binding:
        if isinstance(value, Function):
            if self.keeps_tasks and not _is_decorated(value):
                return self._optioned(name, value, owner)
            value = value.function
        if isinstance(value, ModuleType):
            return self._module(name, value, owner)
        written = self._undecorated(value)
        if written is not None:
            space = written.__globals__.get("__name__", "")
            if space in self.files:
                return self._rider(name, value, space, owner)
            return self._part_binding(name, self._define(value, written, owner), owner)
        if isinstance(value, type):
            self._register(value, owner)
        if isinstance(value, type) and is_own_class(value):
            return self._class(name, value, owner)
        statement = statement_of(name, value)
        if statement is not None:
            text, module = statement
            if module:
                self.state.imports.setdefault(f"import {module}")
            return _Binding(text, space=owner.space)
        found = installed.import_of(name, value)
        if found is not None:
            self._package(found[1])
            return _Binding(found[0], space=owner.space)
        return self._constant(name, value, owner)

    def _package(self, module: str) -> None:
        package = installed.package_of(module)
        if package is not None:
            self.state.packages.add(package)

    def _module(self, name: str, module: ModuleType, owner: _Owner) -> _Binding:
        if installed.is_own(module):
            if module.__name__ == "__main__":
                raise FunctionSourceError(f"{owner.uses(name)}, the notebook itself: use the names in it directly")
            if module.__name__ not in self.files and module.__name__ not in sys.modules:
                raise FunctionSourceError(f"{owner.uses(name)}, a module that cannot be imported by its name")
            if not self._rides(module.__name__):
                raise Rides(module.__name__)
            found = (f"import {module.__name__}" + ("" if name == module.__name__ else f" as {name}"), "")
        else:
            statement = installed.import_of(name, module)
            if statement is None:
                raise FunctionSourceError(f"{owner.uses(name)}, a module that cannot be imported by its name")
            found = statement
            self._package(found[1])
        return _Binding(found[0], space=owner.space)

    def _rides(self, module: str) -> bool:
        """Return whether a module of the user's own comes along: by its file, or as a folder of others that do."""
        return module in self.files or any(name.startswith(module + ".") for name in self.files)

    def _rider(self, name: str, value: Any, space: str, owner: _Owner) -> _Binding:
        """Import something from a module that rides along."""
        there = vars(sys.modules[space])
        for word in (getattr(value, "__name__", name), name):
            found = there.get(word)
            if found is value or (isinstance(found, Function) and found.function is value):
                return _Binding(f"from {space} import {word}" + (f" as {name}" if word != name else ""), space=space)
        raise FunctionSourceError(
            f"{owner.uses(name)}, which is no longer in {space}: import {space} again (restart the kernel, or "
            "%autoreload)"
        )

    def _part_binding(self, name: str, key: _Key, owner: _Owner, expression: str = "") -> _Binding:
        part = self.state.parts[key]
        expression = expression or part.binds
        if expression != name and (alias := f"{name} = {expression}") not in part.aliases:
            part.aliases.append(alias)
        return _Binding(expression, key, owner.space)

    # -- functions ------------------------------------------------------------------------------

    def _undecorated(self, value: object) -> FunctionType | None:
        """Return the function of the user's own whose ``def``, with its decorators, makes this value; or None."""
        own: FunctionType | None = value if isinstance(value, FunctionType) and _is_own_function(value) else None
        chain: list[object] = [value]
        while not isinstance(value, type) and (inner := _wrapped(chain[-1])) is not None:
            chain.append(inner)
        raw: object = chain[-1]
        if not (isinstance(raw, FunctionType) and _is_own_function(raw)):
            return own
        if raw is value:
            return raw
        bound = raw.__globals__.get(raw.__name__)
        bound = bound.function if isinstance(bound, Function) else bound
        made_here = bound is value if any(bound is link for link in chain) else own is None
        return raw if made_here else own

    def _define(self, value: Any, written: FunctionType, owner: _Owner) -> _Key:
        """Write a function down, once, with all that it needs."""
        if id(value) in self.state.seen:
            return self.state.seen[id(value)][1]
        space = written.__globals__.get("__name__", "")
        if written.__name__ == "<lambda>" or written.__code__.co_name == "<lambda>":
            raise FunctionSourceError(f"{owner.name} uses a lambda ({_place(written)}): give it a name, with def")
        if hasattr(value, "registry") and hasattr(value, "dispatch"):
            raise FunctionSourceError(
                f"{owner.uses(written.__name__)}, a singledispatch function: what was registered with it does not "
                "travel; ask for the type with isinstance inside of one function"
            )
        bound = written.__globals__.get(written.__name__)
        bound = bound.function if isinstance(bound, Function) else bound
        bare = value is written and bound is not value
        definition = function_definition(
            written, lambda node: bare or (not self.keeps_tasks and _is_task(node, written.__globals__))
        )
        text, defaults = _with_defaults(definition, written)
        scope = {**written.__globals__, **_closure(written), **defaults}
        key = (space, definition.qualname, text)
        self.state.seen[id(value)] = (value, key)
        self._add(key, text, definition, scope, space)
        return key

    def _add(self, key: _Key, text: str, definition: Definition, scope: Mapping[str, Any], space: str) -> None:
        owner = _Owner(definition.qualname.replace("<locals>.", ""), space, text)
        names = names_of(text, owner.name)
        if key not in self.state.parts:
            self.state.parts[key] = _Part(text, definition.name, names)
        self.state.made |= names.made
        for name in (*names.first, *names.later):
            self._need(name, scope, owner)
        self.state.annotated += [(name, scope[name], owner) for name in names.annotated if name in scope]
        self._submodules(names, scope)
        self._inner_imports(text, owner)

    def _need(self, name: str, scope: Mapping[str, Any], owner: _Owner) -> None:
        if name in _OF_EVERY_MODULE:
            return
        if name == "__file__":
            raise FunctionSourceError(
                f"{owner.uses(name)}, but a task runs in a directory of its own: hand the file in, with files=, or "
                "give its whole path as an argument"
            )
        if name == "get_ipython":
            raise FunctionSourceError(
                f"{owner.uses(name)}: a magic, or a command with '!', works in a notebook only; use Python, as in "
                "subprocess.run"
            )
        if name in scope and not (name in ("exit", "quit") and hasattr(builtins, name)):
            self._bind(name, scope[name], owner)
        elif name == "display" and "IPython.display" in sys.modules:
            self._bind(name, sys.modules["IPython.display"].display, owner)
        elif not hasattr(builtins, name):
            self.state.undefined.setdefault(name, owner)

    def _refuse_undefined(self) -> None:
        for name, owner in self.state.undefined.items():
            if name not in self.state.made:
                raise FunctionSourceError(
                    f"{owner.uses(name)}, a name that is defined nowhere: define it before, or pass it as an argument"
                )

    def _submodules(self, names: Names, scope: Mapping[str, Any]) -> None:
        """Import the modules that are reached as attributes: ``import ase`` alone gives no ``ase.build``."""
        for root, *attributes in names.chains:
            module = scope.get(root)
            for attribute in attributes:
                if not isinstance(module, ModuleType) or root not in (*names.first, *names.later):
                    break
                below = f"{module.__name__}.{attribute}"
                module = getattr(module, attribute, None)
                if (
                    not isinstance(module, ModuleType)
                    or module.__name__ != below
                    or sys.modules.get(below) is not module
                ):
                    break
                if installed.is_own(module):
                    if not self._rides(below):
                        raise Rides(below)
                else:
                    self._package(below)
                self.state.imports.setdefault(f"import {below}")

    def _inner_imports(self, text: str, owner: _Owner) -> None:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                raise FunctionSourceError(
                    f"{owner.name} imports {'.' * node.level}{node.module or ''} relatively: in a task there is no "
                    "package around it; write the whole name"
                )
        for module in installed.imported_names(tree, ""):
            if not installed.is_own_module_to_be(module):
                self._package(module)
            elif not self._rides(module):
                raise Rides(module)

    def _bind_annotated(self) -> None:
        """Give annotations their meaning where that costs nothing: who never reads them does without."""
        done = 0
        while done < len(self.state.annotated):
            name, value, owner = self.state.annotated[done]
            done += 1
            package = getattr(value, "__module__", None) or getattr(value, "__name__", "")
            if name in self.state.bindings or str(package).partition(".")[0] == "matterstack":
                continue
            before = self.state.copy()
            try:
                self._bind(name, value, owner)
                self._refuse_undefined()
            except (FunctionSourceError, Rides):
                self.state = before

    # -- classes --------------------------------------------------------------------------------

    def _class(self, name: str, cls: type, owner: _Owner) -> _Binding:
        space, top = cls.__module__, cls.__qualname__.partition(".")[0]
        if space in self.files:
            self._list_class(cls, top if name == top else name)
            return self._rider(name, cls, space, owner)
        return self._part_binding(name, self._define_class(cls, owner), owner, cls.__qualname__)

    def _bind_class(self, cls: type, owner: _Owner) -> None:
        """Bind a class under the name it was given by its statement."""
        if not is_own_class(cls):
            return self._register(cls, owner)
        top = cls.__qualname__.partition(".")[0]
        outer = cls if top == cls.__qualname__ else space_of(cls).get(top)
        return self._bind(top, outer if isinstance(outer, type) else cls, owner)

    def _register(self, cls: type, owner: _Owner) -> None:
        """Write down how objects of a class are written and read, where `ms.values.register` said so."""
        ways = codec.registered(cls)
        label = f"register {codec.name_of(cls)}"
        if ways is None or label in self.state.bindings:
            return
        key = ("", label, "")
        self.state.bindings[label] = _Binding("", key)
        names = []
        for thing in (cls, *ways):
            name = getattr(thing, "__name__", "")
            self._bind(name, thing, _Owner(f"what {cls.__qualname__} was registered with", owner.space))
            names.append(name)
        text = f"matterstack_main.register({', '.join(names)})\n"
        self.state.parts[key] = _Part(text, label, Names(tuple(names), (), (), frozenset(), ()))

    def _list_class(self, cls: type, expression: str) -> None:
        self.state.classes[f"{cls.__module__}:{cls.__qualname__}"] = expression
        for member in vars(cls).values():
            inside = isinstance(member, type) and member.__qualname__ == f"{cls.__qualname__}.{member.__name__}"
            if inside and member.__module__ == cls.__module__:
                self._list_class(member, f"{expression}.{member.__name__}")

    def _define_class(self, cls: type, owner: _Owner) -> _Key:
        if id(cls) in self.state.seen:
            return self.state.seen[id(cls)][1]
        space, top = cls.__module__, cls.__qualname__.partition(".")[0]
        scope = space_of(cls)
        if top != cls.__qualname__ and "<locals>" not in cls.__qualname__:
            outer = scope.get(top)
            if not isinstance(outer, type):
                raise FunctionSourceError(f"{owner.uses(top)}: the class around {cls.__qualname__} cannot be found")
            return self._define_class(outer, owner)
        before = set(self.state.classes)
        if cls.__bases__ == (tuple,) and hasattr(cls, "_fields") and not inspect.get_annotations(cls):
            definition = _namedtuple(cls)
        else:
            definition = class_definition(cls, lambda node: False)
        self._list_class(cls, definition.name)
        text = definition.text
        if space != "__main__":
            made = [expression for label, expression in self.state.classes.items() if label not in before]
            text += "\n\n" + "".join(f'{expression}.__module__ = "{space}"\n' for expression in made)
        key = (space, definition.qualname, text)
        self.state.seen[id(cls)] = (cls, key)
        self._add(key, text, definition, scope, space)
        return key

    # -- constants ------------------------------------------------------------------------------

    def _constant(self, name: str, value: Any, owner: _Owner) -> _Binding:
        """Write a value down by the codec."""
        encoder = codec.Encoder(classes=self.stored)
        try:
            plain = encoder.encode(value, name)
        except codec.NotWritableError as error:
            found = installed.import_of_instance(name, value)
            if found is not None:
                self._package(found[1])
                return _Binding(found[0], space=owner.space)
            raise FunctionSourceError(
                f"{owner.uses(name)}, which cannot be written into task.py: make it inside of {owner.name}, or pass "
                f"what it is made from as an argument ({error})"
            ) from None
        self.state.arrays.update(encoder.arrays)
        own = []
        for label, cls in sorted(encoder.classes.items()):
            self._register(cls, owner)
            if is_own_class(cls):
                self._bind_class(cls, owner)
                own.append(label)
            else:
                self._package(cls.__module__)
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False)
        listed = ", ".join(self.state.classes[label] for label in own)
        given = f", classes=[{listed}]" if own else ""
        statement = f"{name} = matterstack_main.constant({text!r}{given})"
        tops = dict.fromkeys(self.state.classes[label].partition(".")[0] for label in own)
        tops.update((way, None) for label in encoder.classes if (way := f"register {label}") in self.state.bindings)
        return self._late(name, statement, tuple(tops), owner)

    def _optioned(self, name: str, function: Function[..., Any], owner: _Owner) -> _Binding:
        """Write down a function with options of its own, as `Function.with_options` made it."""
        raw = inspect.unwrap(function.function)
        base = getattr(raw, "__name__", name)
        present = getattr(raw, "__globals__", {}).get(base)
        if not (isinstance(present, Function) and present.function is function.function):
            present = function.function
        if base == name:
            base = f"{name}_plain"
        self._bind(base, present, owner)
        options = f"{name}_options"
        self._bind(options, dict(function.options), owner)
        self.state.imports.setdefault("import matterstack.functions.function")
        plain = f"getattr({base}, 'function', {base})"
        statement = f"{name} = matterstack.functions.function.Function({plain}, {options})"
        return self._late(name, statement, (base, options), owner)

    def _late(self, name: str, statement: str, needs: tuple[str, ...], owner: _Owner) -> _Binding:
        """Return the binding of a name by a statement that needs definitions, where there are such."""
        if not needs:
            return _Binding(statement, space=owner.space)
        key = (owner.space, name, statement)
        self.state.parts.setdefault(key, _Part(statement + "\n", name, Names(needs, (), (), frozenset(), ())))
        return _Binding(name, key, owner.space)

    # -- the text -------------------------------------------------------------------------------

    def _body(self) -> Iterator[str]:
        """Yield the lines: imports, constants, definitions in an order in which each finds what it needs."""
        state = self.state
        plain = [(name, binding.text) for name, binding in state.bindings.items() if binding.part is None]
        imports = {text for _, text in plain if text.startswith(("import ", "from "))}
        # ``import ase.build`` also binds ``ase``: those that are asked for by name come last, and win.
        beside = [line for line in state.imports if line not in imports]
        yield from sorted(beside)
        yield from sorted(imports, key=lambda line: (line.startswith("from "), line))
        constants = [text for _, text in plain if text not in imports]
        if constants:
            yield ""
            yield from constants
        for key in self._order():
            part = state.parts[key]
            yield ""
            yield ""
            yield part.text.rstrip("\n")
            if part.aliases:
                yield ""
                yield ""
                yield from part.aliases
        yield ""

    def _order(self) -> list[_Key]:
        parts, bindings = self.state.parts, self.state.bindings

        def keys(names: Iterable[str]) -> list[_Key]:
            return [binding.part for name in names if (binding := bindings.get(name)) and binding.part]

        first: dict[_Key, list[_Key]] = {key: keys(part.names.first) for key, part in parts.items()}
        later = {key: keys((*part.names.later, *part.names.annotated)) for key, part in parts.items()}
        for key, part in parts.items():
            owner = bindings.get(part.binds)
            if owner is None or owner.part == key:
                continue
            if owner.part is None:
                raise FunctionSourceError(
                    f"{part.binds} is the name of a function or class that {key[1]} defines, and of another thing that "
                    "is used beside it: rename one of the two"
                )
            first[owner.part].append(key)
        reach: dict[_Key, set[_Key]] = {}
        for key in parts:
            found: set[_Key] = set()
            waiting = [*first[key], *later[key]]
            while waiting:
                other = waiting.pop()
                if other not in found:
                    found.add(other)
                    waiting += [*first[other], *later[other]]
            reach[key] = found
        ordered: dict[_Key, None] = {}
        begun: set[_Key] = set()

        def place(key: _Key) -> None:
            if key in begun:
                return
            begun.add(key)
            for other in first[key]:
                place(other)
            after = [other for other in later[key] if key in reach[other]]
            for other in later[key]:
                if other not in after:
                    place(other)
            ordered[key] = None
            for other in after:
                place(other)

        for key in parts:
            place(key)
        return list(ordered)


# -- small questions ----------------------------------------------------------------------------


def _is_own_function(function: FunctionType) -> bool:
    space = function.__globals__.get("__name__")
    file = function.__code__.co_filename
    return (space not in sys.modules or installed.is_own_name(space)) and not installed.is_installed_file(file)


def _wrapped(thing: object) -> object:
    """Return the function that a decorator has put something around; numpy and numba call it by a name of their own."""
    if not callable(thing):
        return None
    inner = (getattr(thing, name, None) for name in ("__wrapped__", "pyfunc", "py_func"))
    return next((found for found in inner if callable(found)), None)


def _is_task(decorator: ast.expr, space: Mapping[str, Any]) -> bool:
    """Return whether a decorator is `ms.task`, by whatever name, or made by it."""
    known, value = resolve(decorator.func if isinstance(decorator, ast.Call) else decorator, space)
    return known and getattr(value, "__module__", None) == Function.__module__


def _namedtuple(cls: Any) -> Definition:
    """Return the statement that makes a class of ``collections.namedtuple``."""
    name = cls.__name__
    given = (
        f", defaults={tuple(cls._field_defaults.values())!r}"
        if literal_of(cls._field_defaults) not in (None, "{}")
        else ""
    )
    text = f'{name} = __import__("collections").namedtuple("{name}", {" ".join(cls._fields)!r}{given})\n'
    return Definition(name, cls.__qualname__, text, nested=False)


def _is_decorated(function: Function[..., Any]) -> bool:
    """Return whether a function with options is what the ``def`` with its decorators made."""
    raw = inspect.unwrap(function.function)
    return isinstance(raw, FunctionType) and raw.__globals__.get(raw.__name__) is function


def _place(function: FunctionType) -> str:
    return f"line {function.__code__.co_firstlineno} of its cell or file"


def _rideable(space: str) -> bool:
    return space != "__main__" and installed.is_own_name(space) and sys.modules[space].__spec__ is not None


def _closure(function: FunctionType) -> dict[str, Any]:
    """Return the variables of the functions around a function."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # not yet set: refused as a name that is defined nowhere
    return found


def _with_defaults(definition: Definition, function: FunctionType) -> tuple[str, dict[str, Any]]:
    """Return the text, and under names of their own the values of defaults that its expressions no longer give."""
    text = definition.text
    node = ast.parse(text).body[0]
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return text, {}
    arguments = [*node.args.posonlyargs, *node.args.args]
    given = function.__defaults__ or ()
    written = node.args.defaults
    pairs = list(zip([arg.arg for arg in arguments[len(arguments) - len(written) :]], written, given, strict=False))
    keywords = function.__kwdefaults__ or {}
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if default is not None and argument.arg in keywords:
            pairs.append((argument.arg, default, keywords[argument.arg]))
    if len(given) != len(written):
        raise FunctionSourceError(f"the defaults of {function.__qualname__} have changed since it was defined")
    replaced, values = [], {}
    for argument_name, default, value in pairs:
        if _says(default, value, function, nested=definition.nested):
            continue
        name = f"{definition.name}_{argument_name}"
        values[name] = value
        replaced.append((default, name))
    return _replaced(text, replaced), values


def _says(default: ast.expr, value: Any, function: FunctionType, *, nested: bool) -> bool:
    """Return whether the expression of a default still gives its value."""
    try:
        literal = ast.literal_eval(default)
    except (ValueError, TypeError, SyntaxError):
        known, found = resolve(default, function.__globals__)
        return not nested if not known else found is value or literal_of(found) == (literal_of(value) or "")
    if isinstance(literal, list | dict | set) or (type(literal) is type(value) and repr(literal) == repr(value)):
        return True
    raise FunctionSourceError(
        f"the default {ast.unparse(default)} of {function.__qualname__} has changed since it was defined: define "
        "it again"
    )


def _replaced(text: str, parts: list[tuple[ast.expr, str]]) -> str:
    """Replace expressions in a text, the last first."""
    lines = [line.encode() for line in text.splitlines(keepends=True)]
    for node, name in sorted(parts, key=lambda part: (part[0].lineno, part[0].col_offset), reverse=True):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        tail = lines[last][node.end_col_offset or 0 :]
        lines[first : last + 1] = [lines[first][: node.col_offset] + name.encode() + tail]
    return b"".join(lines).decode()
