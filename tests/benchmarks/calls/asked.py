"""What a program of python_tasks.py is asked for, and what it tells: ``<program> MODE WORK call|memory N``."""

from __future__ import annotations

import importlib
import json
import sys
import time


def asked():
    """Return the mode, the function, and the argument of each of its calls."""
    mode, work, what, count = sys.argv[1:]
    return mode, getattr(importlib.import_module(work), what), [1.0 + n / 1e5 for n in range(int(count))]


def tell(began, results):
    """Print how long it took from the first submission to the last result, and the results where they are memory."""
    took = time.perf_counter() - began
    assert all(result is not None for result in results)
    print(json.dumps({"took_s": took, "memory": [one for one in results if isinstance(one, dict)]}))
