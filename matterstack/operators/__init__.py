"""The ways an attempt is carried out, one module each."""

from __future__ import annotations

from collections.abc import Mapping

from matterstack.core.operator import Operator
from matterstack.operators.local import LocalOperator

__all__ = ["BUILT_IN", "LocalOperator", "Operator"]

#: The operators that `open_run` can rebuild, by the name config.json gives them.
BUILT_IN: Mapping[str, type[Operator]] = {"local": LocalOperator}
