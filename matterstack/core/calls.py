"""Calls of Python functions, as tasks keep them: which program, which arguments, and whose values they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import PurePath
from typing import Any, NoReturn

from matterstack.core.identifiers import check_identifier

#: What runs a call, in its directory: the operator says which Python that is.
COMMAND = ("python", "task.py")
#: What a call leaves: its value, or else what it raised.
VALUE, ERROR = "value.json", "error.json"
#: Where the values of tasks before lie, a folder per task; large arrays of arguments; and those of the value.
VALUES, ARGUMENT_ARRAYS, VALUE_ARRAYS = "values", "args", "value"


@dataclass(frozen=True, slots=True)
class Reference:
    """What a task will give, to be put where the value shall go: as an argument, or in a list, tuple or dict of one.

    ``relaxed["atoms"]`` is an item of it. `Workflow.add`, `Workflow.map` and `Workflow.reference` make references.

    Parameters
    ----------
    task_id : str
        Whose value.
    path : tuple of (str or int)
        Which item of it.
    iteration : int, optional
        Of which iteration; by default of the one that is planned.
    run : str, optional
        The directory of another run.

    Examples
    --------
    >>> Reference("relax-Cu")["atoms"]
    Reference(task_id='relax-Cu', path=('atoms',), iteration=None, run=None)
    """

    task_id: str
    path: tuple[str | int, ...] = ()
    iteration: int | None = None
    run: str | None = None

    def __post_init__(self) -> None:
        check_identifier(self.task_id, "task id")

    def __getitem__(self, key: str | int) -> Reference:
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise TypeError(f"an item of what {self.task_id} will give is named by a text or a number, not {key!r}")
        return Reference(self.task_id, (*self.path, key), self.iteration, self.run)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"what {self.task_id} will give is not known yet, so it has no {name!r}: take that in a function, or in "
            f"the next plan; an item of it is named as in [{name!r}]",
            name=name,
            obj=self,
        )

    def __iter__(self) -> NoReturn:
        raise TypeError(
            f"how many items {self.task_id} will give is not known yet: pass it as a whole, or name an item, as in [0]"
        )

    def __bool__(self) -> NoReturn:
        raise TypeError(f"what {self.task_id} will give is not known yet: decide in a function, or in the next plan")


@dataclass(frozen=True, slots=True)
class Source:
    """Whose value a call takes.

    Parameters
    ----------
    task_id : str
    iteration : int, optional
        None for the iteration of the task that uses it.
    run : str, optional
        Of another run: its directory; in a run, its id.
    attempt : int, optional
        Of an earlier iteration, in a run: which attempt.
    is_data : bool, optional
        In a run: the task is no call, and its data is meant.
    data : Any
        That data, taken in from another run.
    files : mapping of str to str, optional
        What was taken in from another run: SHA-256 by the path that it had there.
    origin : str, optional
        Of which run, task and attempt that is.
    """

    task_id: str
    iteration: int | None = None
    run: str | None = None
    attempt: int | None = None
    is_data: bool | None = None
    data: Any = None
    files: Mapping[str, str] | None = None
    origin: str | None = None

    @property
    def label(self) -> str:
        """What args.json calls it, and its folder below ``values/``."""
        if self.run is not None:
            return f"{PurePath(self.run).name}/{self.iteration or 0}.{self.task_id}"
        return self.task_id if self.iteration is None else f"{self.iteration}.{self.task_id}"

    def to_json(self) -> Any:
        """Return plain data: the task's id alone, where that says it all."""
        data = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return self.task_id if len(data) == 1 else data

    @classmethod
    def from_json(cls, data: Any) -> Source:
        """Rebuild it from `to_json`."""
        return cls(data) if isinstance(data, str) else cls(**data)


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """What runs calls of a function: ``task.py``, and all that it needs beside it.

    Parameters
    ----------
    function : str
        Its name.
    files : mapping of str to bytes
        By their paths in an attempt's directory.
    packages : tuple of str
        The installed packages that it imports.
    """

    function: str
    files: Mapping[str, bytes] = field(repr=False)
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function.

    Parameters
    ----------
    function : str
        Its name.
    program : Program or str
        What runs it; in a run, the SHA-256 by which its files are kept.
    arguments : mapping
        What ``args.json`` holds.
    python : str
        The interpreter that planned it.
    sources : sequence of Source
        Whose values the arguments name.
    arrays : mapping of str to bytes, or sequence of str
        Large arrays of the arguments by file name; in a run, the names alone.
    """

    function: str
    program: Program | str
    arguments: Mapping[str, Any]
    python: str
    sources: Sequence[Source] = ()
    arrays: Mapping[str, bytes] | Sequence[str] = field(default=(), repr=False)

    @property
    def upstream(self) -> tuple[str, ...]:
        """Tasks of the same iteration whose values it takes."""
        return tuple(source.task_id for source in self.sources if source.iteration is None and source.run is None)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; of a call that a run has taken."""
        data: dict[str, Any] = {"function": self.function, "program": self.program, "python": self.python}
        data |= {name: said for name, said in self.arguments.items() if said}
        if self.sources:
            data["values"] = [source.to_json() for source in self.sources]
        if self.arrays:
            data["arrays"] = list(self.arrays)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Call:
        """Rebuild a call from `to_json`."""
        return cls(
            data["function"],
            data["program"],
            {"args": data.get("args", []), "kwargs": data.get("kwargs", {})},
            data["python"],
            tuple(Source.from_json(one) for one in data.get("values", ())),
            tuple(data.get("arrays", ())),
        )
