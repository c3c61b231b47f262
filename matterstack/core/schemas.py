"""JSON Schemas: checked before a run starts, obeyed by what people and instruments answer.

Draft 2020-12 unless ``$schema`` says otherwise, ``format`` is checked, and nothing is ever
fetched: a ``$ref`` leads to a place in the schema itself, or to a published meta-schema.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from matterstack.core.numbers import why_no_number
from matterstack.core.text import neutral
from matterstack.errors import InvalidTaskError

if TYPE_CHECKING:
    from referencing import Resource
    from referencing._core import Resolver

_MOST_VIOLATIONS = 50
_BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_SCALARS = frozenset({"string", "number", "integer", "boolean", "null"})
#: Keywords whose cost is what an answer is long, times what the schema is long. The others may cost far more: patterns
#: that backtrack, items compared with each other, ways that branch at each level, formats with grammars.
_CHEAP = frozenset(
    {"$schema", "$id", "$comment", "title", "description", "default", "examples", "unit", "deprecated", "readOnly"}
    | {"type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    | {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "required"}
    | {"properties", "additionalProperties", "items", "if", "then", "else"}
)
_SMALL_BYTES, _SMALL_WORK = 100_000, 5_000_000
_MOST_TEXT = 400
#: What `format` wants, where the word alone does not say it.
_FORMATS = {
    "date": "a date such as 2025-12-31",
    "time": "a time with its zone, such as 14:30:00+02:00, or 12:30:00Z for UTC",
    "date-time": "a date and time with its zone, such as 2025-12-31T14:30:00+02:00, or 2025-12-31T12:30:00Z for UTC",
}

#: What a rejection at a gate may mean; see `matterstack.core.task.Task`.
ON_REJECT = ("fail", "skip", "replan")


class Approve(dict[str, Any]):
    """The schema of an approval gate: ``decision`` is approve or reject, with a ``comment``.

    Parameters
    ----------
    on_reject : {'fail', 'skip', 'replan'}
        What a rejection means, for the task that is given this schema; see ``on_reject`` of `Task`.

    Raises
    ------
    InvalidTaskError
        ``on_reject`` is none of these.

    Examples
    --------
    >>> from matterstack.core.task import Task
    >>> gate = Task("go", operator="human", instructions="Is the cell fit to be synthesized?", schema=Approve("skip"))
    >>> gate.on_reject
    'skip'
    >>> violations(gate.schema, {"decision": "perhaps"})
    ["$.decision: must be 'approve' or 'reject', not 'perhaps'"]
    """

    def __init__(self, on_reject: str = "fail") -> None:
        if on_reject not in ON_REJECT:
            raise InvalidTaskError(f"on_reject must be 'fail', 'skip' or 'replan', not {on_reject!r}")
        self.on_reject = on_reject
        super().__init__(
            {
                "type": "object",
                "properties": {
                    "decision": {"enum": ["approve", "reject"]},
                    "comment": {"type": "string", "description": "why; a rejection needs it"},
                },
                "required": ["decision"],
                "additionalProperties": False,
                "if": {"properties": {"decision": {"const": "reject"}}, "required": ["decision"]},
                "then": {"required": ["comment"], "properties": {"comment": {"minLength": 1}}},
            }
        )


def check_schema(schema: object, what: str) -> None:
    """Raise unless `schema` can be obeyed.

    Parameters
    ----------
    schema : object
        The candidate.
    what : str
        How the error names it.

    Raises
    ------
    InvalidTaskError
        Not a schema of its draft, an unknown draft, or a reference that leads nowhere.
    """
    from referencing.exceptions import Unresolvable

    jsonschema = load_jsonschema()
    if not isinstance(schema, Mapping):
        raise InvalidTaskError(f"{what} must be a mapping with a JSON Schema, not {schema!r}")
    validator = _validator(schema)
    named = schema.get("$schema")
    if named is not None and validator is None:
        raise InvalidTaskError(f"{what} names the draft {named!r}, which is not known; leave $schema out for 2020-12")
    try:
        validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InvalidTaskError(f"{what} is not a JSON Schema: at {error.json_path}: {error.message}") from None
    except RecursionError:
        raise InvalidTaskError(f"{what} is nested too deep") from None
    try:
        _check_references(*_resource(schema))
        probes: tuple[object, ...] = ({}, [], "", 0, True, None)
        for probe in probes:
            next(validator.iter_errors(probe), None)
    except Unresolvable as error:
        raise InvalidTaskError(
            f"{what} refers to {error.ref!r}, which is not in the schema itself; nothing is fetched from outside"
        ) from None
    except RecursionError:
        raise InvalidTaskError(f"{what} refers to itself without end") from None


def _resource(schema: Mapping[str, Any]) -> tuple[Resource[Any], Resolver[Any]]:
    import jsonschema_specifications
    from referencing import Resource
    from referencing.jsonschema import DRAFT202012

    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    uri = resource.id() or ""
    return resource, jsonschema_specifications.REGISTRY.with_resource(uri, resource).resolver(uri)


def _check_references(resource: Resource[Any], resolver: Resolver[Any]) -> None:
    if isinstance(resource.contents, Mapping):
        for keyword in ("$ref", "$dynamicRef"):
            if keyword in resource.contents:
                resolver.lookup(resource.contents[keyword])
    for inner in resource.subresources():
        _check_references(inner, resolver.in_subresource(inner))


def _validator(schema: Mapping[str, Any]) -> Any:
    """Return jsonschema's validator of the schema's draft; None where the draft is unknown."""
    import jsonschema_specifications

    jsonschema = load_jsonschema()
    unknown: Any = None
    known = jsonschema.validators.validator_for
    kind: Any = known(schema, default=unknown) if "$schema" in schema else jsonschema.Draft202012Validator
    if kind is None:
        return None
    # An explicit registry also keeps jsonschema from fetching what a reference names.
    return kind(schema, registry=jsonschema_specifications.REGISTRY, format_checker=kind.FORMAT_CHECKER)


def load_jsonschema() -> Any:
    """Return the module jsonschema.

    It asks for the grammar of IRIs as soon as it is imported, which takes a second to be made; the few schemas with
    that format wait for it when they are first checked.
    """
    if "jsonschema" not in sys.modules and "rfc3987_syntax" not in sys.modules:
        later = ModuleType("rfc3987_syntax")

        def is_valid_syntax(term: str, value: str) -> bool:
            grammar = importlib.import_module("rfc3987_syntax")
            return bool(grammar.is_valid_syntax(term, value))

        later.__dict__["is_valid_syntax"] = is_valid_syntax
        if importlib.util.find_spec("rfc3987_syntax") is not None:
            sys.modules["rfc3987_syntax"] = later
            try:
                importlib.import_module("jsonschema")
            finally:
                del sys.modules["rfc3987_syntax"]
    return importlib.import_module("jsonschema")


def is_costly(schema: Mapping[str, Any], size_bytes: int) -> bool:
    """Return whether checking an answer of that size might take long, so that it needs a bound.

    Examples
    --------
    >>> is_costly({"properties": {"gap_eV": {"type": "number"}}}, 1000)
    False
    >>> is_costly({"properties": {"name": {"pattern": "^(a+)+$"}}}, 1000)
    True
    """
    if size_bytes > _SMALL_BYTES:
        return True
    try:
        text = json.dumps(schema)
    except (TypeError, ValueError, RecursionError):
        return True
    return len(text) * size_bytes > _SMALL_WORK or not _is_cheap(schema, 0)


def _is_cheap(schema: object, ways: int) -> bool:
    """Return whether every keyword is cheap, and few are nested in each other that visit an answer twice."""
    if isinstance(schema, bool):
        return True
    if not isinstance(schema, Mapping) or not _CHEAP.issuperset(schema):
        return False
    ways += "if" in schema
    inner = [schema[key] for key in ("additionalProperties", "items", "if", "then", "else") if key in schema]
    properties = schema.get("properties", {})
    if ways > 3 or not isinstance(properties, Mapping):
        return False
    return all(_is_cheap(part, ways) for part in (*inner, *properties.values()))


def violations(schema: Mapping[str, Any], instance: object) -> list[str]:
    """Return in plain words, by path, how `instance` violates the schema; empty when it does not.

    Examples
    --------
    >>> violations({"type": "object", "required": ["gap_eV"], "properties": {"gap_eV": {"minimum": 0}}}, {"gap_eV": -1})
    ['$.gap_eV: must be at least 0, not -1']
    """
    return [f"{shown_path(path)}: {text}" for path, text in violations_by_path(schema, instance)]


def violations_by_path(schema: Mapping[str, Any], instance: object) -> list[tuple[tuple[str | int, ...], str]]:
    """Return path and words of each violation; what is missing has the path it should have.

    Examples
    --------
    >>> violations_by_path({"required": ["gap_eV"]}, {})
    [(('gap_eV',), 'is missing')]
    """
    from referencing.exceptions import Unresolvable

    found: list[tuple[tuple[str | int, ...], str]] = []
    try:
        validator = _validator(schema)
        for error in validator.iter_errors(instance):
            path = tuple(error.absolute_path)
            if error.validator == "required":
                path += (_missing(error),)
            found.append((path, _bounded(neutral(_say(error)))))
            if len(found) >= _MOST_VIOLATIONS:
                found.append(((), f"only the first {_MOST_VIOLATIONS} violations are listed"))
                break
    except RecursionError:
        found.append(((), "cannot be checked: it is nested too deep for its schema"))
    except (ArithmeticError, ValueError, TypeError, AttributeError, LookupError, re.error, Unresolvable) as error:
        # jsonschema computes with numbers as Python does: 1e400 by multipleOf overflows. And a schema from a run that
        # nobody has checked may be none.
        found.append(((), f"cannot be checked against its schema: {type(error).__name__}: {error}"))
    return found


def _bounded(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 40]}... ({len(text)} characters)"


def _missing(error: Any) -> str:
    """Return the name that a ``required`` misses: jsonschema reports each by itself, in its message."""
    names = [name for name in error.validator_value if name not in error.instance]
    return next((name for name in names if error.message.startswith(repr(name))), str(names[0]))


def shown_path(path: tuple[str | int, ...]) -> str:
    """Return a path as ``$.candidates[0].name``."""
    text = "$"
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if part.isidentifier() else f"[{neutral(part)!r}]"
    return text


_NAMES = {
    "object": "an object {...}",
    "array": "a list [...]",
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else neutral(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def _say(error: Any) -> str:
    """Return what an error of jsonschema means to somebody who has not read the specification."""
    rule, value = error.validator_value, error.instance
    shown = _shown(value)
    match error.validator:
        case "type":
            kinds = [rule] if isinstance(rule, str) else rule
            why = why_no_number(value) if isinstance(value, str) and {"number", "integer"} & set(kinds) else None
            wanted = " or ".join(_NAMES.get(kind, kind) for kind in kinds)
            return f"must be {wanted}: {why}" if why else f"must be {wanted}, not {shown}"
        case "required":
            return "is missing"
        case "enum":
            return f"must be {' or '.join(_shown(item) for item in rule)}, not {shown}"
        case "const":
            return f"must be {_shown(rule)}, not {shown}"
        case "minimum":
            return f"must be at least {rule}, not {shown}"
        case "maximum":
            return f"must be at most {rule}, not {shown}"
        case "exclusiveMinimum":
            return f"must be more than {rule}, not {shown}"
        case "exclusiveMaximum":
            return f"must be less than {rule}, not {shown}"
        case "minLength" | "maxLength":
            return f"must have {'at least' if error.validator == 'minLength' else 'at most'} {rule} characters: {shown}"
        case "minItems" | "maxItems":
            few = "at least" if error.validator == "minItems" else "at most"
            return f"must have {few} {rule} {'entry' if rule == 1 else 'entries'}, but has {len(value) or 'none'}"
        case "additionalProperties" if rule is False and isinstance(error.schema, Mapping):
            known = error.schema.get("properties", {})
            extra = [repr(name) for name in value if name not in known]
            asked = ", ".join(repr(name) for name in known) or "nothing"
            return f"{', '.join(extra[:5])} was not asked for (asked for: {asked})"
        case "anyOf" | "oneOf" if error.context:
            ways = "; or ".join(dict.fromkeys(_say(inner) for inner in error.context[:6]))
            return f"fits none of the ways allowed: {ways}"
        case "format":
            return f"must be a valid {rule}: {shown}" + (f"; write {_FORMATS[rule]}" if rule in _FORMATS else "")
        case "pattern":
            return f"must match the pattern {rule}: {shown}"
        case _:
            return _say_more(error)


def _say_more(error: Any) -> str:
    """Go on with the rules that are seldom met."""
    rule, value = error.validator_value, error.instance
    match error.validator:
        case "uniqueItems":
            return _repeated(value, error.schema)
        case "multipleOf":
            return f"must be a multiple of {rule}, not {_shown(value)}"
        case "contains":
            return "has no entry of the kind that is wanted" if value else "must have an entry, but has none"
        case "minProperties" | "maxProperties":
            few = "at least" if error.validator == "minProperties" else "at most"
            return f"must have {few} {rule} parts, but has {len(value) or 'none'}"
        case "dependentRequired":
            lacks = [
                f"{other!r}, since there is {name!r}"
                for name, others in rule.items()
                if name in value
                for other in others
                if other not in value
            ]
            return f"lacks {'; '.join(lacks[:5])}"
        case "not":
            return f"must not be this: {_shown(value)}"
        case _:
            message: str = error.message
            return message


def _repeated(value: Sequence[Any], schema: Any) -> str:
    """Return which entries of a list are there more than once."""
    places: dict[str, list[int]] = {}
    for place, item in enumerate(value):
        places.setdefault(json.dumps(item, sort_keys=True, default=str), []).append(place)
    items = schema.get("items") if isinstance(schema, Mapping) else None
    done = "is chosen" if isinstance(items, Mapping) and "enum" in items else "is there"
    said = []
    for found in places.values():
        if len(found) > 1:
            item = value[found[0]]
            if isinstance(item, dict | list):
                said.append(f"entries {' and '.join(str(place + 1) for place in found[:10])} are the same")
            else:
                often = "twice" if len(found) == 2 else f"{len(found)} times"
                said.append(f"{item if isinstance(item, str) else _shown(item)} {done} {often}")
    return "; ".join(said[:5]) or "two entries are the same"  # 1 and 1.0 are


def template(schema: Mapping[str, Any]) -> Any:
    """Return an answer to fill in: defaults where the schema has them, and placeholders that do not pass.

    Examples
    --------
    >>> template(Approve())
    {'decision': 'approve | reject', 'comment': ''}
    """
    return _template(schema, schema, 0)


def _template(schema: object, root: Mapping[str, Any], depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > 8:
        return None
    if "default" in schema:
        return schema["default"]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return " | ".join(str(item) for item in schema["enum"])
    if (referred := _referred(schema, root)) is not None:
        return _template(referred, root, depth + 1)
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        return {name: _template(inner, root, depth + 1) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [_template(schema["items"], root, depth + 1)] if "items" in schema else []
    return "" if kind == "string" else None


def _referred(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """Return what a reference to a place in the same schema leads to; None where there is none."""
    reference = schema.get("$ref")
    if not (isinstance(reference, str) and reference.startswith("#/")):
        return None
    found: Any = root
    for part in reference[2:].split("/"):
        found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
    return found


def _resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    for _ in range(10):
        referred = _referred(schema, root) if isinstance(schema, Mapping) else None
        if referred is None:
            break
        schema = referred
    return schema


class Column(NamedTuple):
    """A column of a table.

    Attributes
    ----------
    kinds : frozenset of str
        The types of JSON that its schema takes.
    choices : tuple
        The values it takes, where they are listed; else empty.
    schema : mapping
        Of a cell.
    """

    kinds: frozenset[str]
    choices: tuple[Any, ...]
    schema: Mapping[str, Any]


def as_column(schema: object, root: Mapping[str, Any]) -> Column | None:
    """Return the schema of a property as that of a column; None where it takes lists or objects."""
    schema = _resolved(schema, root)
    if not isinstance(schema, Mapping):
        return Column(frozenset({"string"}), (), {}) if schema is True else None
    choices: tuple[Any, ...] = ()
    if "const" in schema:
        choices = (schema["const"],)
    elif isinstance(schema.get("enum"), list | tuple):
        choices = tuple(schema["enum"])
    kind = schema.get("type")
    if choices:
        kinds = {_kind(choice) for choice in choices}
    elif isinstance(kind, str):
        kinds = {kind}
    elif isinstance(kind, list | tuple):
        kinds = set(kind)
    elif ways := schema.get("anyOf") or schema.get("oneOf"):
        found = [as_column(way, root) for way in ways]
        kinds = {kind for column in found for kind in (column.kinds if column else ("object",))}
    else:
        kinds = {"number"} if _BOUNDS.intersection(schema) else {"string"}
    return Column(frozenset(kinds), choices, schema) if kinds <= _SCALARS else None


def _kind(value: object) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case None:
            return "null"
    return "object"


def row_schema(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the schema of an item where the schema is a list of objects, else None."""
    schema = _resolved(schema, schema)
    items = _resolved(schema.get("items"), schema)
    is_list = schema.get("type") == "array" and isinstance(items, Mapping)
    return items if is_list and items.get("type") == "object" else None


def columns(schema: Mapping[str, Any]) -> dict[str, Column] | None:
    """Return the columns by name where the schema is a list of flat objects, else None.

    Examples
    --------
    >>> found = columns({"type": "array", "items": {"type": "object", "properties": {"gap_eV": {"minimum": 0}}}})
    >>> {name: sorted(column.kinds) for name, column in found.items()}
    {'gap_eV': ['number']}
    """
    items = row_schema(schema)
    if items is None:
        return None
    found = {name: as_column(inner, schema) for name, inner in items.get("properties", {}).items()}
    known = {name: column for name, column in found.items() if column is not None}
    return known if known and len(known) == len(found) else None


def first_rows(schema: Mapping[str, Any]) -> list[list[Any]]:
    """Return the rows that a table begins with, which are its default, by its columns; None where a cell is empty.

    Examples
    --------
    >>> row = {"type": "object", "properties": {"x": {"type": "number"}, "gas": {"enum": ["air", "N2"]}}}
    >>> first_rows({"type": "array", "items": row, "default": [{"gas": "air", "x": 1.5}, {"x": 2}]})
    [[1.5, 'air'], [2, None]]
    """
    default = _resolved(schema, schema).get("default")
    rows = default if isinstance(default, list | tuple) else ()
    known = columns(schema) or {}
    return [[row.get(name) for name in known] for row in rows if isinstance(row, Mapping)]
