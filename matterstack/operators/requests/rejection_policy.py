"""The rejection policy of a request: how often and how long an answer may be wrong."""

from __future__ import annotations

from dataclasses import dataclass

from matterstack.errors import InvalidConfigError


@dataclass(frozen=True, slots=True)
class RejectionPolicy:
    """How often and how long an answer may be wrong.

    Parameters
    ----------
    max_rejections : int
        So many different bad answers fail the attempt.
    rejection_timeout_s : float, optional
        So long after the first bad answer, without a good one, the attempt fails.
    on_invalid : {'wait', 'fail'}
        ``fail``: the first bad answer fails it.
    """

    max_rejections: int = 3
    rejection_timeout_s: float | None = None
    on_invalid: str = "wait"

    def __post_init__(self) -> None:
        most = self.max_rejections
        if not isinstance(most, int) or isinstance(most, bool) or most < 1:
            raise InvalidConfigError(f"max_rejections must be a positive whole number, not {most!r}")
        limit = self.rejection_timeout_s
        if limit is not None and not (isinstance(limit, int | float) and limit >= 0):
            raise InvalidConfigError(f"rejection_timeout_s must be a number of seconds, not {limit!r}")
        if self.on_invalid not in ("wait", "fail"):
            raise InvalidConfigError(f"on_invalid must be 'wait' or 'fail', not {self.on_invalid!r}")
