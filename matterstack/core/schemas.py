"""JSON Schemas: checked before a run starts, obeyed by what people and instruments answer.

Draft 2020-12 unless ``$schema`` says otherwise, ``format`` is checked, and nothing is ever
fetched: a ``$ref`` leads to a place in the schema itself, or to a published meta-schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from matterstack.core.text import neutral
from matterstack.errors import InvalidTaskError

if TYPE_CHECKING:
    from referencing import Resource
    from referencing._core import Resolver

_MOST_VIOLATIONS = 50
_SCALARS = frozenset({"string", "number", "integer", "boolean", "null"})
#: Keywords whose cost an answer can blow up: backtracking patterns, and comparing all items with each other.
_COSTLY = frozenset({"pattern", "patternProperties", "uniqueItems"})
_SMALL_BYTES = 100_000


#: What a rejection at a gate may mean; see `matterstack.core.task.Task`.
ON_REJECT = ("fail", "skip", "replan")


class Approve(dict[str, Any]):
    """The schema of an approval gate: ``decision`` is approve or reject, with a ``comment``.

    Parameters
    ----------
    on_reject : {'fail', 'skip', 'replan'}
        What a rejection means, for the task that is given this schema; see `Task.on_reject`.

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
    import jsonschema
    from referencing.exceptions import Unresolvable

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
    import jsonschema
    import jsonschema_specifications
    from jsonschema.validators import validator_for

    unknown: Any = None
    kind: Any = validator_for(schema, default=unknown) if "$schema" in schema else jsonschema.Draft202012Validator
    if kind is None:
        return None
    # An explicit registry also keeps jsonschema from fetching what a reference names.
    return kind(schema, registry=jsonschema_specifications.REGISTRY, format_checker=kind.FORMAT_CHECKER)


def is_costly(schema: Mapping[str, Any], size_bytes: int) -> bool:
    """Return whether checking an answer of that size might take long, so that it needs a bound."""
    return size_bytes > _SMALL_BYTES or any(key in _COSTLY for key in _keys(schema))


def _keys(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _keys(inner)


def violations(schema: Mapping[str, Any], instance: object) -> list[str]:
    """Return in plain words, by path, how `instance` violates the schema; empty when it does not.

    Examples
    --------
    >>> violations({"type": "object", "required": ["gap_eV"], "properties": {"gap_eV": {"minimum": 0}}}, {"gap_eV": -1})
    ['$.gap_eV: must be at least 0, not -1']
    """
    return [f"{_shown_path(path)}: {text}" for path, text in violations_by_path(schema, instance)]


def violations_by_path(schema: Mapping[str, Any], instance: object) -> list[tuple[tuple[str | int, ...], str]]:
    """Return path and words of each violation; what is missing has the path it should have.

    Examples
    --------
    >>> violations_by_path({"required": ["gap_eV"]}, {})
    [(('gap_eV',), 'is missing')]
    """
    found: list[tuple[tuple[str | int, ...], str]] = []
    try:
        for error in _validator(schema).iter_errors(instance):
            path = tuple(error.absolute_path)
            if error.validator == "required":
                path += (_missing(error),)
            found.append((path, neutral(_say(error))))
            if len(found) >= _MOST_VIOLATIONS:
                found.append(((), f"only the first {_MOST_VIOLATIONS} violations are listed"))
                break
    except RecursionError:
        found.append(((), "cannot be checked: it is nested too deep for its schema"))
    except (ArithmeticError, ValueError, TypeError) as error:
        # jsonschema computes with numbers as Python does: 1e400 by multipleOf overflows.
        found.append(((), f"cannot be checked against its schema: {type(error).__name__}: {error}"))
    return found


def _missing(error: Any) -> str:
    """Return the name that a ``required`` misses: jsonschema reports each by itself, in its message."""
    names = [name for name in error.validator_value if name not in error.instance]
    return next((name for name in names if error.message.startswith(repr(name))), str(names[0]))


def _shown_path(path: tuple[str | int, ...]) -> str:
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
            return f"must be {' or '.join(_NAMES.get(kind, kind) for kind in kinds)}, not {shown}"
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
            return f"must have {few} {rule} entries, but has {len(value)}"
        case "additionalProperties" if rule is False and isinstance(error.schema, Mapping):
            known = error.schema.get("properties", {})
            extra = [repr(name) for name in value if name not in known]
            asked = ", ".join(repr(name) for name in known) or "nothing"
            return f"{', '.join(extra[:5])} was not asked for (asked for: {asked})"
        case "anyOf" | "oneOf" if error.context:
            ways = "; or ".join(dict.fromkeys(_say(inner) for inner in error.context[:6]))
            return f"fits none of the ways allowed: {ways}"
        case "format":
            return f"must be a valid {rule}: {shown}"
        case "pattern":
            return f"must match the pattern {rule}: {shown}"
        case _:
            message: str = error.message
            return message if len(message) <= 300 else f"{message[:280]}..."


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
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        found: Any = root
        for part in reference[2:].split("/"):
            found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
        return _template(found, root, depth + 1)
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        return {name: _template(inner, root, depth + 1) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [_template(schema["items"], root, depth + 1)] if "items" in schema else []
    return "" if kind == "string" else None


def columns(schema: Mapping[str, Any]) -> dict[str, str] | None:
    """Return name and type of each column where the schema is a list of flat objects, else None.

    Examples
    --------
    >>> columns({"type": "array", "items": {"type": "object", "properties": {"gap_eV": {"type": "number"}}}})
    {'gap_eV': 'number'}
    """
    items = schema.get("items")
    if schema.get("type") != "array" or not isinstance(items, Mapping) or items.get("type") != "object":
        return None
    found = {}
    for name, inner in items.get("properties", {}).items():
        kind = inner.get("type", "string") if isinstance(inner, Mapping) else None
        if not isinstance(kind, str) or kind not in _SCALARS:
            return None
        found[name] = kind
    return found or None
