"""The directory of a request, and what becomes of the answer that is put into it.

What is known of a request lies in its directory, each fact whole or not there at all::

    response.json                          the answer, as somebody put it there (or response.csv, response.xlsx)
    response.errors.md                     why the last one was refused, or that the request is over
    .matterstack/rejected/<n>.json         the n-th refused answer; <n>.reason.json says why
    .matterstack/accepted/<sha256>.json    the bytes that were accepted
    .matterstack/verdict.json              how the request ended; written once, whoever is first

The tick, a colleague's cell and a time limit may all want to end a request at the same
moment: ``verdict.json`` is created by a hard link, which one of them wins.

Whoever may write into the directory may write anything there. So each fact is judged when it is read, and one that
makes no sense is the trouble of this request alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from matterstack.core.attempt_files import MACHINERY, TABLE
from matterstack.core.attempts import Attempt, Observation, Seen
from matterstack.core.numbers import is_time
from matterstack.core.schemas import columns
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
    OperatorUnreachableError,
    UnsafeFileError,
)
from matterstack.files import open_inside, read_inside, write_inside
from matterstack.operators.requests.answers import Reading
from matterstack.operators.requests.check_apart import NotYet, Patience, too_long
from matterstack.operators.requests.near_misses import find_near_miss
from matterstack.operators.requests.rejection_policy import RejectionPolicy
from matterstack.operators.requests.workbooks import can_use_workbooks
from matterstack.operators.unchanged import note_unchanged
from matterstack.platforms import user_name

_SETTLE_S = 1.0
_MOST_SHOWN = 10
#: What lies in the directory of a request because the run has put it there.
_WRITTEN = frozenset(entry.name for entry in TABLE if entry.writer == "the run")
#: How long somebody who answers from a cell waits for the check.
_ANSWER_S = 60.0
#: A check that several processes have begun, and none has ended in so long, is given up.
_CHECK_BY_MANY_S = 60.0
#: The clock of a file server may be so far behind.
_CLOCKS_DIFFER_S = 60.0
_OUTCOMES = ("accepted", "failed", "expired", "cancelled")
_MOST_NAMES = 1000
#: All templates are written within so long; one that is younger was changed by somebody.
_TEMPLATE_S = 5.0
_READ = frozenset({".json", ".csv", ".xlsx"})


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
    token : str
        Of the attempt that was asked: a verdict that was moved here from another request says nothing of this one.
    """

    outcome: str
    at: float
    by: str = ""
    reason: str = ""
    source: str = ""
    sha256: str = ""
    token: str = ""

    @property
    def who(self) -> str:
        """Who answered, to be shown."""
        return neutral(self.by.partition("#")[0])


class Refusal(NamedTuple):
    """A bad answer: which in order, its identity, when, and why it was refused."""

    number: int
    sha256: str
    at: float
    reasons: list[str]


class _Received(NamedTuple):
    """What was put in; ``problem``: why it is refused unread; ``waits_for``: what is to be done before it can be."""

    source: str
    raw: bytes = b""
    sha256: str = ""
    by: str = ""
    changed_at: float = 0.0
    problem: str | None = None
    waits_for: str | None = None


class RequestDirectory:
    """The directory of one request.

    Parameters
    ----------
    directory : pathlib.Path
        Of the attempt.
    schema : mapping
        JSON Schema of the answer; from the store, not from the directory.
    token : str
        Of the attempt.
    stem : str
        The answer is ``<stem>.json``; or ``<stem>.csv`` or ``<stem>.xlsx`` where the schema is a list of flat objects.
    patience : Patience, optional
        How long checks are waited for.
    lacks : callable, optional
        Says of a valid answer what has yet to arrive before it can be taken; None for nothing.
    objects : callable, optional
        Says what is wrong with an answer that its schema allows.
    """

    def __init__(
        self,
        directory: Path,
        schema: Mapping[str, Any],
        token: str = "",
        stem: str = "response",
        patience: Patience | None = None,
        lacks: Callable[[Any], str | None] = lambda answer: None,
        objects: Callable[[Any], list[str]] = lambda answer: [],
    ) -> None:
        self.directory = directory
        self.schema = schema
        self.token = token
        self.stem = stem
        self.patience = patience or Patience(_ANSWER_S)
        self.lacks = lacks
        self.objects = objects

    # -- how it ended ---------------------------------------------------------------------

    def verdict(self) -> Verdict | None:
        """Return how the request ended; None while it is open.

        Raises
        ------
        UnsafeFileError
            The file is not as it was written.
        """
        try:
            said = parse_json(read_inside(self.directory, f"{MACHINERY}/verdict.json", MAX_BYTES))
            verdict = Verdict(**said)
        except FileNotFoundError:
            return None
        except (TypeError, InvalidJsonError) as error:
            raise _altered("verdict.json", str(error)) from None
        if (wrong := self._wrong_verdict(verdict)) is not None:
            raise _altered("verdict.json", wrong)
        return verdict

    def _wrong_verdict(self, verdict: Verdict) -> str | None:
        texts = (verdict.by, verdict.reason, verdict.source, verdict.sha256, verdict.token)
        if not all(isinstance(text, str) for text in texts) or verdict.outcome not in _OUTCOMES:
            return "its parts are not what they should be"
        if not is_time(verdict.at):
            return f"it says {verdict.at!r:.40} for a time"
        if verdict.token != self.token:
            return "it is that of another request"
        if verdict.outcome == "accepted" and not (
            re.fullmatch("[0-9a-f]{64}", verdict.sha256) and PurePath(verdict.source).suffix in _READ
        ):
            return "it names no answer"
        return None

    def decide(self, verdict: Verdict) -> Verdict:
        """End the request, and return how it ended: as given, unless somebody was quicker."""
        reach("answer.deciding")
        said = json.dumps(verdict._replace(token=self.token)._asdict()).encode()
        try:
            write_inside(self.directory, f"{MACHINERY}/verdict.json", said, new=True)
        except FileExistsError:
            earlier = self.verdict()
            if earlier is not None:
                return earlier
            raise
        reach("answer.decided")
        if verdict.outcome != "accepted":
            self._tell_over(verdict)
        return verdict

    def _tell_over(self, verdict: Verdict) -> None:
        """Tell whoever looks into the directory that no answer is waited for any more."""
        word = f"answered by {verdict.who}" if verdict.outcome == "accepted" else verdict.outcome
        why = f": {neutral(verdict.reason)}" if verdict.reason else ""
        page = (
            f"# This request is over\n\nIt was {word}{why}.\n\n"
            "No answer is expected here any more: what is saved here from now on has no effect. If it needs to "
            "count, ask whoever runs this campaign.\n"
        )
        write_inside(self.directory, f"{self.stem}.errors.md", page.encode("utf-8", "backslashreplace"))

    def answer(self, value: object, by: str) -> Verdict:
        """Answer from a program: the same checks, and accepted at once.

        Raises
        ------
        AnswerRefusedError
            It violates the schema; nothing was changed.
        AnswerConflictError
            The request has ended, or another answer won.
        """
        try:
            text = dump_json(value, "the answer", "answer") + "\n"
        except InvalidJsonError as error:
            raise AnswerRefusedError(f"{error}; nothing was changed", violations=[str(error)]) from None
        raw = text.encode()
        if len(raw) > MAX_BYTES:
            long = f"the answer has {len(raw)} bytes; {MAX_BYTES} at most are taken"
            raise AnswerRefusedError(long, violations=[long])
        reading = self.patience.read(f"{self.stem}.json", raw, self.schema)
        found = [f"{reading.value}: try again"] if isinstance(reading, NotYet) else reading.wrong
        if found:
            listed = "\n- ".join(found)
            raise AnswerRefusedError(f"the answer was refused, and nothing was changed:\n- {listed}", violations=found)
        mine = f"{by}#{os.urandom(8).hex()}"
        earlier = self.verdict() or self._accept(raw, f"{self.stem}.json", mine)
        if earlier.by != mine:
            who = f" by {earlier.who}" if earlier.by else ""
            word = "answered" if earlier.outcome == "accepted" else earlier.outcome
            raise AnswerConflictError(f"the request was {word}{who} before; your answer changed nothing")
        self._tell_over(earlier)
        return earlier

    def _accept(self, raw: bytes, source: str, by: str) -> Verdict:
        sha256 = hashlib.sha256(raw).hexdigest()
        reach("answer.accepting")
        write_inside(self.directory, f"{MACHINERY}/accepted/{sha256}{Path(source).suffix}", raw)
        verdict = self.decide(Verdict("accepted", time.time(), by, "", source, sha256))
        (self.directory / f"{self.stem}.errors.md").unlink(missing_ok=True)
        return verdict

    def accepted(self, attempt: Attempt) -> Any:
        """Return the answer that was accepted, checked once more.

        Raises
        ------
        AttemptFailedError
            The kept bytes are not those that were accepted.
        OperatorUnreachableError
            The check has not ended yet.
        """
        try:
            verdict = self.verdict()
            if verdict is None or verdict.outcome != "accepted":
                raise InvalidJsonError("no answer was accepted")
            kept = f"{MACHINERY}/accepted/{verdict.sha256}{Path(verdict.source).suffix}"
            raw = read_inside(self.directory, kept, MAX_BYTES)
            if hashlib.sha256(raw).hexdigest() != verdict.sha256:
                raise InvalidJsonError("its SHA-256 is another one")
            reading = self.patience.read(verdict.source, raw, self.schema)
            if isinstance(reading, NotYet):
                if self._is_given_up(attempt, verdict.sha256, reading, time.time()):
                    reading = too_long()
                else:
                    raise OperatorUnreachableError(f"the check of the accepted {verdict.source} has not ended yet")
            if reading.wrong:
                raise InvalidJsonError(reading.wrong[0])
        except (FileNotFoundError, UnsafeFileError, InvalidJsonError) as error:
            raise AttemptFailedError(f"the accepted answer was changed afterwards: {error}") from None
        return reading.value

    def _is_given_up(self, attempt: Attempt, sha256: str, stands: NotYet, at: float) -> bool:
        """Return whether a check that has not ended was begun long ago, maybe by another process."""
        if stands is not NotYet.AT_WORK:
            return False
        since = note_unchanged(attempt, "checking.json", sha256, at)
        return since is not None and at - since >= _CHECK_BY_MANY_S

    # -- what came in ---------------------------------------------------------------------

    def refusals(self) -> list[Refusal]:
        """Return the bad answers so far, in their order.

        Raises
        ------
        UnsafeFileError
            A file is not as it was written.
        """
        found = []
        for number in range(1, 1_000_000):
            name = f"rejected/{number}.reason.json"
            try:
                said = parse_json(read_inside(self.directory, f"{MACHINERY}/{name}", MAX_BYTES))
                refusal = Refusal(number, said["sha256"], said["at"], said["reasons"])
            except FileNotFoundError:
                break
            except (TypeError, KeyError, IndexError, InvalidJsonError) as error:
                raise _altered(name, str(error)) from None
            texts = [refusal.sha256, *refusal.reasons] if isinstance(refusal.reasons, list) else [None]
            if not all(isinstance(text, str) for text in texts) or not refusal.reasons or not is_time(refusal.at):
                raise _altered(name, "its parts are not what they should be")
            found.append(refusal)
        return found

    def _endings(self) -> list[str]:
        """Return the endings of the names under which an answer is read."""
        if columns(self.schema) is None or not can_use_workbooks():
            return [".json", ".csv"]
        return [".json", ".csv", ".xlsx"]

    def _receive(self) -> _Received | None:
        """Read what was put in, once, from one descriptor."""
        names = [f"{self.stem}{ending}" for ending in self._endings()]
        there = [name for name in names if os.path.lexists(self.directory / name)]
        if not there:
            return None
        source = there[0]
        if len(there) > 1:
            which = f"both {there[0]} and {there[1]}" if len(there) == 2 else ", ".join(there)
            return _Received(source, sha256=",".join(there), problem=f"there are {which}: leave one")
        try:
            descriptor = open_inside(self.directory, source)
        except FileNotFoundError:
            return None
        except UnsafeFileError as error:
            return _Received(source, sha256=f"unreadable: {error}", problem=str(error))
        except OSError as error:
            return _Received(source, waits_for=unreadable(source, error))
        with open(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            size = status.st_size
            if size <= MAX_BYTES:
                raw = file.read(MAX_BYTES + 1)
                size = len(raw)
            by = user_name(status.st_uid)
            if size > MAX_BYTES:
                identity = f"oversize: {size} {status.st_mtime_ns}"
                problem = f"{source} holds {size} bytes; {MAX_BYTES} at most are read"
                return _Received(source, b"", identity, by, status.st_mtime, problem)
        return _Received(source, raw, hashlib.sha256(raw).hexdigest(), by, status.st_mtime)

    def _near_miss(self) -> str | None:
        """Return in plain words which file is nearly an answer; None where none is."""
        try:
            with os.scandir(self.directory) as entries:
                found = [entry.name for entry, _ in zip(entries, range(_MOST_NAMES), strict=False)]
        except OSError:
            return None  # an answer could be read all the same
        asked = [".json"] if columns(self.schema) is None else self._endings()
        theirs = [name for name in found if name not in _WRITTEN]  # experiment_request is nearly experiment_result
        return find_near_miss(theirs, self.stem, asked) or self._changed_template(found)

    def _changed_template(self, names: Sequence[str]) -> str | None:
        """Return in plain words which template was filled in, and saved in place; None where none was."""
        if "schema.json" not in names:
            return None
        made_at = os.lstat(self.directory / "schema.json").st_mtime
        for ending in self._endings():
            name = f"{self.stem}.template{ending}"
            if name in names and os.lstat(self.directory / name).st_mtime > made_at + _TEMPLATE_S:
                return f"{name} was changed: if that is the answer, save it as {self.stem}{ending}"
        return None

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
        received: _Received | None = None
        waits = None
        if verdict is None:
            refusals = self.refusals()
            received = self._receive()
            waits = received.waits_for if received else self._near_miss()
            if received is not None and not waits and received.sha256 not in {refusal.sha256 for refusal in refusals}:
                verdict, early = self._judge_answer(attempt, received, refusals, policy, at)
                if early is not None:
                    return early
        if verdict is None:
            verdict = self._out_of_patience(attempt, policy, refusals, limit_s, at)
        if verdict is None:
            if waits:
                return Observation(Seen.WAITING, reason=neutral(waits))
            if not refusals:
                return Observation(Seen.WAITING, reason=self.wish(attempt))
            return Observation(Seen.REJECTED, reason=self._refused(refusals, policy))
        if verdict.outcome == "accepted":
            return Observation(Seen.ENDED, reason=f"answered by {verdict.who}", ended_at=verdict.at)
        if attempt.status is not AttemptStatus.WAITING:
            return Observation(Seen.WAITING, reason=verdict.reason, settling=True)  # one move after the other
        return Observation(Seen.EXPIRED, reason=verdict.reason, ended_at=verdict.at)

    def _judge_answer(
        self, attempt: Attempt, received: _Received, refusals: list[Refusal], policy: RejectionPolicy, at: float
    ) -> tuple[Verdict | None, Observation | None]:
        """Accept or refuse a new answer; or say that it is too early for that."""
        if received.problem is not None:
            self._refuse(received, refusals, policy, [received.problem], at)
            return None, None
        broken = _broken(received)
        if (early := self._too_early(attempt, received, broken, at)) is not None:
            return None, early
        if broken is not None:
            self._refuse(received, refusals, policy, [broken], at)
            return None, None
        reading: Reading | NotYet = NotYet.QUEUED
        if self.patience.left_s:
            reading = self.patience.read(received.source, received.raw, self.schema)
        if isinstance(reading, NotYet):
            if not self._is_given_up(attempt, received.sha256, reading, at):
                said = f"{received.source} is there, and {reading.value}"
                return None, Observation(Seen.WAITING, reason=said, settling=True)
            reading = too_long()
        value = reading.value
        if reasons := reading.wrong or self.objects(value):
            self._refuse(received, refusals, policy, reasons, at)
            return None, None
        if (lacking := self.lacks(value)) is not None:
            return None, Observation(Seen.WAITING, reason=lacking, settling=True)
        return self._accept(received.raw, received.source, received.by), None

    def _too_early(self, attempt: Attempt, received: _Received, broken: str | None, at: float) -> Observation | None:
        """Return what is waited for where an answer may still be being written, or may be meant for another request."""
        source = received.source
        # A list, object or text ends visibly; a table or a bare number may lack its rest.
        may_go_on = not source.endswith(".json") or received.raw.rstrip()[-1:] not in (b"]", b"}", b'"')
        patient = is_cut_off(received.raw) if broken else may_go_on
        if broken or may_go_on:
            young = 0 <= at - received.changed_at < _SETTLE_S
            seen_before = note_unchanged(attempt, "answer.json", received.sha256, at) is not None
            if not seen_before or (patient and young):
                said = f": {broken}" if broken else ""
                reason = f"{source} may still be being written, so it is looked at again{said}"
                return Observation(Seen.WAITING, reason=reason, settling=True)
        if attempt.task.on_reject is not None and received.changed_at < attempt.submitted_at - _CLOCKS_DIFFER_S:
            saved = time.strftime("%Y-%m-%d %H:%M", time.localtime(received.changed_at))
            return Observation(
                Seen.WAITING,
                reason=f"{source} was saved on {saved}, before this was asked, so it is no approval of it: "
                "if it is meant for this request, save it again",
            )
        return None

    def _refuse(
        self,
        received: _Received,
        refusals: list[Refusal],
        policy: RejectionPolicy,
        reasons: list[str],
        at: float,
    ) -> None:
        number = len(refusals) + 1
        said = {"sha256": received.sha256, "at": at, "source": received.source, "by": received.by, "reasons": reasons}
        reach("answer.refusing")
        if received.problem is None:
            write_inside(self.directory, f"{MACHINERY}/rejected/{number}{Path(received.source).suffix}", received.raw)
        lines = "".join(f"    {neutral(reason)}\n" for reason in reasons)
        last = "" if number < policy.max_rejections and policy.on_invalid == "wait" else " It was the last one."
        page = (
            f"# {received.source} was refused\n\nThis was try {number} of {policy.max_rejections}.{last} It was not "
            f"taken, and nothing is lost. What is wrong with it:\n\n{lines}\n"
            "Mend it and save it again under the same name. `schema.json` says what is expected.\n"
        )
        write_inside(self.directory, f"{self.stem}.errors.md", page.encode("utf-8", "backslashreplace"))
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

    def wish(self, attempt: Attempt) -> str:
        """Return what is waited for where nothing has come yet."""
        return waits_for(attempt, f"{self.stem}.json")

    def _refused(self, refusals: list[Refusal], policy: RejectionPolicy) -> str:
        last = refusals[-1]
        more = f"; and {len(last.reasons) - _MOST_SHOWN} more" if len(last.reasons) > _MOST_SHOWN else ""
        return f"refused answer {last.number} of {policy.max_rejections}: {'; '.join(last.reasons[:_MOST_SHOWN])}{more}"


def unreadable(name: str, error: OSError) -> str:
    """Return in plain words that a file cannot be read, and what to do about it."""
    if isinstance(error, PermissionError):
        return f"{name} is there and may not be read by {user_name()}: chmod a+r {name}"
    return f"{name} is there and cannot be read: {error.strerror}"


def _broken(received: _Received) -> str | None:
    """Return why what came in is no JSON at all, which takes no time to find out; None where it is, or is a table."""
    if received.source.endswith(".json"):
        try:
            parse_json(received.raw)
        except InvalidJsonError as error:
            return str(error)
    return None


def _altered(name: str, how: str) -> UnsafeFileError:
    return UnsafeFileError(f"{MACHINERY}/{name} is not as it was written ({neutral(how):.200}): remove it")


def waits_for(attempt: Attempt, what: str) -> str:
    """Return in plain words what a request waits for, and from whom."""
    who = attempt.task.assignee
    return f"{what} in {attempt.name}" + (f", from {who}" if who else "")
