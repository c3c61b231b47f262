"""The directory of a request, and what becomes of the answer that is put into it.

What is known of a request lies in its directory, each fact whole or not there at all::

    response.json                          the answer, as somebody put it there (or response.csv)
    response.errors.md                     why the last one was refused
    .matterstack/rejected/<n>.json         the n-th refused answer; <n>.reason.json says why
    .matterstack/accepted/<sha256>.json    the bytes that were accepted
    .matterstack/verdict.json              how the request ended; written once, whoever is first

The tick, a colleague's cell and a time limit may all want to end a request at the same
moment: ``verdict.json`` is created by a hard link, which one of them wins.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from matterstack.core.attempt_files import MACHINERY
from matterstack.core.attempts import Attempt, Observation, Seen
from matterstack.core.schemas import is_costly, violations
from matterstack.core.states import AttemptStatus
from matterstack.core.strict_json import (
    MAX_BYTES,
    dump_json,
    is_cut_off,
    parse_json,
)
from matterstack.core.text import neutral
from matterstack.crash_points import reach
from matterstack.errors import (
    AnswerConflictError,
    AnswerRefusedError,
    AttemptFailedError,
    InvalidJsonError,
    UnsafeFileError,
)
from matterstack.files import open_inside, read_inside, write_inside
from matterstack.operators.requests.check_apart import check_apart
from matterstack.operators.requests.rejection_policy import RejectionPolicy
from matterstack.operators.requests.tables import parse_table
from matterstack.operators.unchanged import note_unchanged

_SETTLE_S = 1.0
_MOST_SHOWN = 10


class Verdict(NamedTuple):
    """How a request ended.

    Attributes
    ----------
    outcome : str
        ``accepted``, ``failed``, ``expired`` or ``cancelled``.
    at : float
        Seconds since the Unix epoch.
    by : str
        Who answered; for the other outcomes, who ended it.
    reason : str
    source : str
        Name of the file that was accepted.
    sha256 : str
        Of its bytes.
    """

    outcome: str
    at: float
    by: str = ""
    reason: str = ""
    source: str = ""
    sha256: str = ""


class Refusal(NamedTuple):
    """A bad answer: which in order, its identity, when, and why it was refused."""

    number: int
    sha256: str
    at: float
    reasons: list[str]


class _Received(NamedTuple):
    source: str
    raw: bytes
    sha256: str
    by: str
    changed_at: float
    problem: str | None = None


class RequestDirectory:
    """The directory of one request.

    Parameters
    ----------
    directory : pathlib.Path
        Of the attempt.
    schema : mapping
        JSON Schema of the answer; from the store, not from the directory.
    stem : str
        The answer is ``<stem>.json``, or ``<stem>.csv`` where the schema is a list of flat objects.
    lacks : callable, optional
        Says of a valid answer what has yet to arrive before it can be taken; None for nothing.
    """

    def __init__(
        self,
        directory: Path,
        schema: Mapping[str, Any],
        stem: str = "response",
        lacks: Callable[[Any], str | None] = lambda answer: None,
    ) -> None:
        self.directory = directory
        self.schema = schema
        self.stem = stem
        self.lacks = lacks

    # -- how it ended ---------------------------------------------------------------------

    def verdict(self) -> Verdict | None:
        """Return how the request ended; None while it is open."""
        try:
            return Verdict(**parse_json(read_inside(self.directory, f"{MACHINERY}/verdict.json", MAX_BYTES)))
        except FileNotFoundError:
            return None
        except (TypeError, InvalidJsonError) as error:
            raise UnsafeFileError(f"verdict.json is not as it was written: {error}; remove it") from None

    def decide(self, verdict: Verdict) -> Verdict:
        """End the request, and return how it ended: as given, unless somebody was quicker."""
        reach("answer.deciding")
        try:
            write_inside(self.directory, f"{MACHINERY}/verdict.json", json.dumps(verdict._asdict()).encode(), new=True)
        except FileExistsError:
            earlier = self.verdict()
            if earlier is not None:
                return earlier
            raise
        reach("answer.decided")
        return verdict

    def answer(self, value: object, by: str) -> Verdict:
        """Answer from a program: the same checks, and accepted at once.

        Raises
        ------
        AnswerRefusedError
            It violates the schema; nothing was changed.
        AnswerConflictError
            The request has ended, or another answer won.
        """
        text = dump_json(value, "the answer") + "\n"
        raw = text.encode()
        if len(raw) > MAX_BYTES:
            long = f"the answer has {len(raw)} bytes; {MAX_BYTES} at most are taken"
            raise AnswerRefusedError(long, violations=[long])
        if found := self._check(parse_json(raw), len(raw)):
            listed = "\n- ".join(found)
            raise AnswerRefusedError(f"the answer was refused, and nothing was changed:\n- {listed}", violations=found)
        mine = f"{by}#{os.urandom(8).hex()}"
        earlier = self.verdict() or self._accept(raw, f"{self.stem}.json", mine)
        if earlier.by != mine:
            who = f" by {earlier.by.partition('#')[0]}" if earlier.by else ""
            word = "answered" if earlier.outcome == "accepted" else earlier.outcome
            raise AnswerConflictError(f"the request was {word}{who} before; your answer changed nothing")
        return earlier

    def _accept(self, raw: bytes, source: str, by: str) -> Verdict:
        sha256 = hashlib.sha256(raw).hexdigest()
        reach("answer.accepting")
        write_inside(self.directory, f"{MACHINERY}/accepted/{sha256}{Path(source).suffix}", raw)
        verdict = self.decide(Verdict("accepted", time.time(), by, "", source, sha256))
        (self.directory / f"{self.stem}.errors.md").unlink(missing_ok=True)
        return verdict

    def accepted(self) -> Any:
        """Return the answer that was accepted, checked once more.

        Raises
        ------
        AttemptFailedError
            The kept bytes are not those that were accepted.
        """
        verdict = self.verdict()
        try:
            if verdict is None or verdict.outcome != "accepted":
                raise InvalidJsonError("no answer was accepted")
            raw = read_inside(
                self.directory, f"{MACHINERY}/accepted/{verdict.sha256}{Path(verdict.source).suffix}", MAX_BYTES
            )
            if hashlib.sha256(raw).hexdigest() != verdict.sha256:
                raise InvalidJsonError("its SHA-256 is another one")
            value = self._parse(verdict.source, raw)
            if found := self._check(value, len(raw)):
                raise InvalidJsonError(found[0])
        except (FileNotFoundError, UnsafeFileError, InvalidJsonError) as error:
            raise AttemptFailedError(f"the accepted answer was changed afterwards: {error}") from None
        return value

    # -- what came in ---------------------------------------------------------------------

    def refusals(self) -> list[Refusal]:
        """Return the bad answers so far, in their order."""
        found = []
        for number in range(1, 1_000_000):
            try:
                said = parse_json(read_inside(self.directory, f"{MACHINERY}/rejected/{number}.reason.json", MAX_BYTES))
            except FileNotFoundError:
                break
            found.append(Refusal(number, said["sha256"], said["at"], said["reasons"]))
        return found

    def _receive(self) -> _Received | None:
        """Read what was put in, once, from one descriptor."""
        names = [f"{self.stem}.json", f"{self.stem}.csv"]
        there = [name for name in names if os.path.lexists(self.directory / name)]
        if not there:
            return None
        source = there[0]
        if len(there) == 2:
            return _Received(source, b"", "both", "", 0.0, f"there are both {' and '.join(names)}: leave one")
        try:
            descriptor = open_inside(self.directory, source)
        except FileNotFoundError:
            return None
        except (OSError, UnsafeFileError) as error:
            return _Received(source, b"", f"unreadable: {error}", "", 0.0, str(error))
        with open(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            size = status.st_size
            if size <= MAX_BYTES:
                raw = file.read(MAX_BYTES + 1)
                size = len(raw)
            by = _user(status.st_uid)
            if size > MAX_BYTES:
                identity = f"oversize: {size} {status.st_mtime_ns}"
                problem = f"{source} holds {size} bytes; {MAX_BYTES} at most are read"
                return _Received(source, b"", identity, by, status.st_mtime, problem)
        return _Received(source, raw, hashlib.sha256(raw).hexdigest(), by, status.st_mtime)

    def _parse(self, source: str, raw: bytes) -> Any:
        if source.endswith(".csv"):
            return parse_table(raw, self.schema)
        return parse_json(raw)

    def _check(self, value: object, size_bytes: int) -> list[str]:
        if not is_costly(self.schema, size_bytes):
            return violations(self.schema, value)
        return check_apart(self.schema, value)

    def judge(self, attempt: Attempt, policy: RejectionPolicy, limit_s: float | None, at: float) -> Observation:
        """Look at the directory once, and return what the attempt has come to.

        Parameters
        ----------
        attempt : Attempt
        policy : RejectionPolicy
        limit_s : float or None
            How long after its submission the request expires.
        at : float
            Now, in seconds since the Unix epoch.
        """
        verdict = self.verdict()
        refusals: list[Refusal] = []
        if verdict is None:
            refusals = self.refusals()
            received = self._receive()
            if received is not None and received.sha256 not in {refusal.sha256 for refusal in refusals}:
                verdict, settling = self._judge_answer(attempt, received, refusals, at)
                if settling:
                    return Observation(Seen.WAITING, reason=settling, settling=True)
        if verdict is None:
            verdict = self._out_of_patience(attempt, policy, refusals, limit_s, at)
        if verdict is None:
            if not refusals:
                return Observation(Seen.WAITING, reason=self._wish(attempt))
            return Observation(Seen.REJECTED, reason=self._refused(refusals, policy))
        if verdict.outcome == "accepted":
            return Observation(Seen.ENDED, reason=f"answered by {verdict.by.partition('#')[0]}", ended_at=verdict.at)
        if attempt.status is not AttemptStatus.WAITING:
            return Observation(Seen.WAITING, reason=verdict.reason, settling=True)  # one move after the other
        return Observation(Seen.EXPIRED, reason=verdict.reason, ended_at=verdict.at)

    def _judge_answer(
        self, attempt: Attempt, received: _Received, refusals: list[Refusal], at: float
    ) -> tuple[Verdict | None, str | None]:
        """Accept or refuse a new answer; or say that it is too early for that."""
        reasons = [received.problem] if received.problem else []
        value: Any = None
        doubtful = False
        if not reasons:
            try:
                value = self._parse(received.source, received.raw)
                # A list or object ends visibly; a table or a bare number may lack its rest.
                doubtful = received.source.endswith(".csv") or not isinstance(value, list | dict | str)
                patient = doubtful
            except InvalidJsonError as error:
                reasons = [str(error)]
                doubtful = True
                patient = received.source.endswith(".csv") or is_cut_off(received.raw)
        if doubtful:
            young = 0 <= at - received.changed_at < _SETTLE_S
            seen_before = note_unchanged(attempt, "answer.json", received.sha256, at) is not None
            if not seen_before or (patient and young):
                said = f": {reasons[0]}" if reasons else ""
                return None, f"{received.source} may still be being written, so it is looked at again{said}"
        if not reasons:
            reasons = self._check(value, len(received.raw))
        if not reasons:
            if (lacking := self.lacks(value)) is not None:
                return None, lacking
            return self._accept(received.raw, received.source, received.by), None
        self._refuse(received, refusals, reasons, at)
        return None, None

    def _refuse(self, received: _Received, refusals: list[Refusal], reasons: list[str], at: float) -> None:
        number = len(refusals) + 1
        said = {"sha256": received.sha256, "at": at, "source": received.source, "by": received.by, "reasons": reasons}
        reach("answer.refusing")
        if received.problem is None:
            write_inside(self.directory, f"{MACHINERY}/rejected/{number}{Path(received.source).suffix}", received.raw)
        lines = "".join(f"    {neutral(reason)}\n" for reason in reasons)
        page = (
            f"# {received.source} was refused\n\nIt was not taken, and nothing is lost. What is wrong with it:\n\n"
            f"{lines}\nMend it and save it again under the same name. `schema.json` says what is expected.\n"
        )
        write_inside(self.directory, f"{self.stem}.errors.md", page.encode())
        # The last of the three counts: until it is there, the same answer is refused again under this number.
        write_inside(self.directory, f"{MACHINERY}/rejected/{number}.reason.json", json.dumps(said).encode())
        reach("answer.refused")
        refusals.append(Refusal(number, received.sha256, at, reasons))

    def _out_of_patience(
        self, attempt: Attempt, policy: RejectionPolicy, refusals: list[Refusal], limit_s: float | None, at: float
    ) -> Verdict | None:
        reason = None
        outcome = "failed"
        if refusals and policy.on_invalid == "fail":
            reason = "a bad answer was given"
        elif len(refusals) >= policy.max_rejections:
            reason = f"{len(refusals)} different bad answers were given"
        elif refusals and (after_s := policy.rejection_timeout_s) is not None and at - refusals[0].at >= after_s:
            reason = f"no good answer came within {after_s:g} s after the first bad one"
        if reason is not None:
            reason = f"{reason}; the last: {'; '.join(refusals[-1].reasons[:_MOST_SHOWN])}"
        elif limit_s is not None and at - attempt.submitted_at >= limit_s:
            reason, outcome = f"no good answer came within {limit_s:g} s", "expired"
        return None if reason is None else self.decide(Verdict(outcome, at, reason=reason))

    def _wish(self, attempt: Attempt) -> str:
        return waits_for(attempt, f"{self.stem}.json")

    def _refused(self, refusals: list[Refusal], policy: RejectionPolicy) -> str:
        last = refusals[-1]
        more = f"; and {len(last.reasons) - _MOST_SHOWN} more" if len(last.reasons) > _MOST_SHOWN else ""
        return f"refused answer {last.number} of {policy.max_rejections}: {'; '.join(last.reasons[:_MOST_SHOWN])}{more}"


def waits_for(attempt: Attempt, what: str) -> str:
    """Return in plain words what a request waits for, and from whom."""
    who = attempt.task.assignee
    return f"{what} in {attempt.name}" + (f", from {who}" if who else "")


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def current_user() -> str:
    """Return the name of whoever runs this process."""
    return _user(os.getuid())
