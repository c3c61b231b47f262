"""The check of an answer in a process of its own, for one that may take long."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from matterstack.core.schemas import violations

_CHECK_S = 10.0


def check_apart(schema: Mapping[str, Any], value: object) -> list[str]:
    """Check in a process of its own, so that no pattern and no answer can hold the tick."""
    question = json.dumps({"schema": schema, "instance": value})
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "matterstack.operators.requests.check_apart"],
            input=question,
            capture_output=True,
            text=True,
            timeout=_CHECK_S,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return [f"$: cannot be checked against its schema within {_CHECK_S:g} s"]
    except subprocess.CalledProcessError as error:
        return [f"$: cannot be checked against its schema: {error.stderr.strip()[-300:]}"]
    found: list[str] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    json.dump(violations(asked["schema"], asked["instance"]), sys.stdout)
