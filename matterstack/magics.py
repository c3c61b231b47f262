"""``%load_ext matterstack``: the run of this notebook by a word."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from matterstack.errors import RunStatusError

if TYPE_CHECKING:
    from matterstack.run import Run

_WORDS = ("status", "step", "explain")


def register(shell: Any) -> None:
    """Add ``%ms status|step|explain [name]`` to an IPython shell.

    The name is that of a variable which holds a run; without it, the notebook's only run, or
    the one called ``run``, is meant.
    """

    def ms(line: str) -> Any:
        """``%ms status|step|explain [variable]``."""
        word, *rest = shlex.split(line) or ["status"]
        if word not in _WORDS or len(rest) > 1:
            raise RunStatusError(f"%ms takes one of {', '.join(_WORDS)}, and the name of a variable; not {line!r}")
        run = _find(shell.user_ns, rest[0] if rest else None)
        if word == "step":
            return run.step()
        return run.explain() if word == "explain" else run

    shell.register_magic_function(ms, magic_kind="line", magic_name="ms")


def _find(names: dict[str, Any], wanted: str | None) -> Run:
    from matterstack.run import Run

    there = {name: value for name, value in names.items() if isinstance(value, Run) and not name.startswith("_")}
    if wanted is not None:
        if wanted not in there:
            known = ", ".join(there) or "none"
            raise RunStatusError(f"there is no run called {wanted!r} in this notebook; there is: {known}")
        return there[wanted]
    if "run" in there:
        return there["run"]
    if len({id(run) for run in there.values()}) == 1:
        return next(iter(there.values()))
    raise RunStatusError(f"which run? %ms takes its variable's name; there is: {', '.join(there) or 'none'}")
