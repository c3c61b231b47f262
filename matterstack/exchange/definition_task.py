"""A node of a Python Workflow Definition, as a task: `python task.py` in this directory does it again.

MatterStack wrote this file; the function and its arguments are in args.json.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

if __name__ == "__main__":
    import matterstack_main


def run_function(function: str, arguments: dict[str, Any]) -> Any:
    """Call a function by its name; an output of the workflow has none, and is the value as it came.

    Parameters
    ----------
    function : str
        ``"module.function"``.
    arguments : dict
        By their names.
    """
    if not function:
        return arguments["value"]
    module, _, name = function.rpartition(".")
    import importlib

    return getattr(importlib.import_module(module), name)(**arguments)


if __name__ == "__main__":
    matterstack_main.run(run_function)
