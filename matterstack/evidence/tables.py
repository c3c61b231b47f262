"""Tables of a record: a row per thing, as CSV for everybody, and as Parquet where pyarrow is installed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matterstack.core.text import storable
from matterstack.orchestration import tables
from matterstack.storage.reader import StoreReader

if TYPE_CHECKING:
    import pandas as pd

_INPUTS = ("attempt", "name", "of", "path", "sha256")
_OUTPUTS = ("attempt", "name", "path", "sha256", "bytes", "not_hashed")
_ANSWERS = ("attempt", "outcome", "by", "at", "source", "sha256", "path", "refused", "reason")


def tables_of(store: StoreReader, record: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the tables of a run by name: tasks, attempts, results, events, inputs, outputs, answers.

    Parameters
    ----------
    store : StoreReader
        Of one moment.
    record : mapping
        As `record_of` returns it.
    """
    import pandas as pd

    attempts = record["attempts"]
    return {
        "tasks": tables.tasks(store),
        "attempts": tables.attempts(store).rename(columns={"attempt": "number"}),
        "results": tables.results(store),
        "events": tables.events(store).set_index("seq"),
        "inputs": pd.DataFrame(_rows(attempts, "inputs", _INPUTS), columns=list(_INPUTS)).set_index("attempt"),
        "outputs": pd.DataFrame(_outputs(attempts), columns=list(_OUTPUTS))
        .astype({"bytes": "Int64"})
        .set_index("attempt"),
        "answers": pd.DataFrame(_answers(attempts), columns=list(_ANSWERS)).set_index("attempt"),
    }


def _rows(attempts: Sequence[Mapping[str, Any]], what: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    return [
        (attempt["attempt"], *(one.get(name) for name in columns[1:])) for attempt in attempts for one in attempt[what]
    ]


def _outputs(attempts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
    for attempt in attempts:
        label = attempt["attempt"]
        for one in attempt["outputs"]:
            yield (label, one["name"], one["path"], one["sha256"], one["bytes"], None)
        for name, why in attempt["not_hashed"].items():
            yield (label, name, None, None, None, why)


def _answers(attempts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
    for attempt in attempts:
        if answer := attempt.get("answer"):
            yield (attempt["attempt"], *(answer.get(name) for name in _ANSWERS[1:]))


def as_csv(frame: pd.DataFrame) -> bytes:
    """Return a table as CSV in UTF-8, times in ISO 8601; what is no number or text is JSON."""
    return storable(_plain(frame).to_csv(date_format="%Y-%m-%dT%H:%M:%S.%fZ", lineterminator="\n")).encode()


def as_parquet(frame: pd.DataFrame) -> bytes | None:
    """Return a table as Parquet; None where pyarrow is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return None
    plain = _plain(frame).reset_index()
    for name in plain.columns:
        if plain[name].dtype == "category":
            plain[name] = plain[name].astype("str")
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pandas(plain, preserve_index=False), out)
    return out.getvalue()


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns of mixed or nested values are text, as JSON."""
    plain = frame.copy()
    for name in plain.columns:
        if plain[name].dtype == object:
            plain[name] = plain[name].map(_text).astype("str")
    return plain


def _text(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
