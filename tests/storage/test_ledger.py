"""The ledger of limits: never over one, whoever asks and whatever is killed; what is none of ours is refused."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from crashes import ENDED, in_child, killed_at, points_of
from hypothesis import given
from hypothesis import strategies as st

from matterstack.core.limits import SEEN_S, Granting, Holder, Offer, Share, Standing, Waiter
from matterstack.errors import DamagedStoreError, ForeignStoreError, NewerStoreError, StoreError
from matterstack.storage import limits
from matterstack.storage.limits import Ledger

A, B, C = (Holder(name, f"runs/{name}", 1.5) for name in "abc")


def ledger_of(base: Path, **amounts: int | None) -> Ledger:
    ledger = Ledger(base / "workspaces" / "w")
    ledger.set_amounts(amounts)
    return ledger


def ask(ledger: Ledger, holder: Holder, token: str, at: float, priority: int = 0, **wants: int) -> bool:
    with ledger.granting(holder, at) as granting:
        return granting.ask(token, f"0.{token}.1", wants, priority)


def test_an_attempt_gets_all_that_it_wants_or_none(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, furnace=1, license=2)
    assert ask(ledger, A, "t1", 0, license=1)
    assert ask(ledger, A, "t2", 0, license=1, furnace=1)
    assert not ask(ledger, B, "t3", 0, license=1)
    assert not ask(ledger, B, "t3", 0, license=1, furnace=1)
    standing = ledger.standing()
    assert {name: standing.held(name) for name in standing.amounts} == {"furnace": 1, "license": 2}
    assert [(one.token, one.attempt, one.name) for one in ledger.reservations()] == [
        ("t1", "0.t1.1", "license"), ("t2", "0.t2.1", "furnace"), ("t2", "0.t2.1", "license")]  # fmt: skip
    assert {(one.holder, one.name) for one in standing.waiters} == {(B, "furnace"), (B, "license")}
    ledger.give_back(A, ["t2"])
    assert ask(ledger, B, "t3", 0, license=1, furnace=1)
    assert not ledger.standing().waiters


def test_only_who_holds_something_gives_it_back(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, furnace=1)
    assert ask(ledger, A, "t1", 0, furnace=1)
    for other in (B, A._replace(place="runs/copy"), A._replace(made_at=2.5)):
        ledger.give_back(other, ["t1"])
        assert not ledger.tokens(other)
    assert ledger.tokens(A) == {"t1"}
    ledger.give_back(A, ["t1"])
    assert not ledger.tokens(A)


def test_who_waits_says_so_again_only_after_some_seconds(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, furnace=0)
    for at, seen_at in ((0, 0), (1, 0), (10, 10)):
        assert not ask(ledger, A, "t1", at, furnace=1)
        (waiter,) = ledger.standing().waiters
        assert (waiter.since, waiter.seen_at) == (0, seen_at)


def test_what_a_moved_run_holds_goes_with_it_and_its_old_place_waits_no_more(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, furnace=1, license=0)
    assert ask(ledger, A, "t1", 0, furnace=1)
    assert not ask(ledger, A, "t2", 0, license=1)
    ledger.hand_over(A, B)
    assert (ledger.tokens(A), ledger.tokens(B)) == (set(), {"t1"})
    assert not ledger.standing().waiters


def test_what_has_no_limit_is_not_granted(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, furnace=1)
    assert not ask(ledger, A, "t1", 0, license=1)
    assert not ask(ledger, A, "t1", 0, furnace=2)
    ledger.set_amounts({"furnace": None, "license": 1})
    assert ledger.standing().amounts == {"license": 1}
    assert not ask(ledger, A, "t1", 0, furnace=1)
    assert ask(ledger, A, "t1", 0, license=1)


def test_the_next_goes_to_the_higher_priority_then_to_who_holds_less_then_to_who_waits_longer() -> None:
    def gets(standing: Standing, holder: Holder, priority: int = 0, at: float = 100.0) -> bool:
        return Granting(standing, holder, at).ask("t", "0.t.1", {"x": 1}, priority)

    def waits(holder: Holder, priority: int, turn: int, wants: int = 1, seen_at: float = 99.0, **more: int) -> Waiter:
        return Waiter(holder, "x", {"x": wants, **more}, priority, 0.0, seen_at, turn)

    one_left = Standing({"x": 3}, [Share(A, "x", 2, 0.0)], [waits(B, 0, 1), waits(C, 0, 2)])
    assert [gets(one_left, holder) for holder in (A, B, C)] == [False, True, False]
    assert [gets(one_left, holder, 1) for holder in (A, B, C)] == [True, True, True]
    assert gets(one_left, C, at=99.0 + SEEN_S), "those before it were not seen for so long"
    assert not gets(one_left, C, at=99.0 - 30.0), "a clock of theirs goes fast"
    assert gets(one_left, C, at=99.0 - 3600.0), "they were seen before the clock was set back"
    assert not gets(Standing({"x": 3}, [Share(A, "x", 2, 0.0)], [waits(B, 0, 1, wants=3)]), A), "it is kept together"
    assert gets(Standing({"x": 3}, [Share(A, "x", 2, 0.0)], [waits(B, 0, 1, wants=4)]), A), "that never comes"
    two = {"x": 3, "y": 1}
    assert gets(Standing(two, [Share(C, "y", 1, 0.0)], [waits(B, 0, 1, y=1)]), A), "it could not use it"
    assert gets(Standing({"x": 5}, [Share(A, "x", 2, 0.0)], [waits(B, 0, 1), waits(C, 0, 2)]), A), "enough for all"


def test_within_a_run_a_small_task_does_not_pass_a_large_one_for_ever() -> None:
    granting = Granting(Standing({"x": 3}, [Share(A, "x", 1, 0.0)], []), A, 1.0)
    assert not granting.ask("large", "0.large.1", {"x": 3}, 0)
    assert not granting.ask("small", "0.small.1", {"x": 1}, 0)
    assert granting.ask("urgent", "0.urgent.1", {"x": 1}, 1)


def test_who_was_not_seen_for_a_day_waits_no_more(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, furnace=1)
    assert ask(ledger, A, "a1", 0, furnace=1)
    assert not ask(ledger, B, "b1", 0, furnace=1)
    assert not ask(ledger, C, "c1", 3600.0, furnace=1)
    assert [one.holder for one in ledger.standing().waiters] == [B, C]
    assert not ask(ledger, C, "c1", 24.5 * 3600.0, furnace=1)
    assert [one.holder for one in ledger.standing().waiters] == [C]


def test_who_gives_back_takes_its_turn_after_those_that_wait(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, furnace=1)
    assert ask(ledger, A, "a1", 0, furnace=1)
    order = []
    for number in range(2, 8):  # both always want it, and A says so first
        for holder in (A, B):
            assert not ask(ledger, holder, f"{holder.run_id}{number}", number, furnace=1)
        (share,) = ledger.standing().shares
        ledger.give_back(share.holder, ledger.tokens(share.holder))
        order += [h.run_id for h in (A, B) if ask(ledger, h, f"{h.run_id}{number}", number, furnace=1)]
    assert order == ["b", "a"] * 3


def test_who_gives_a_part_back_goes_to_the_end_of_the_queue_for_the_whole(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path)
    offer = Offer({"g": 1}, {"g": ["g:0"]})
    for at, holder in enumerate((A, A, B)):
        with ledger.granting(holder, at) as granting:
            granting.ask(f"t{at}", f"0.t{at}.1", {"g": 1}, 0, offer)
    assert ledger.held_by(A) == {"t0": ["g:0"]}
    assert [one.holder for one in ledger.standing().waiters] == [A, B]
    ledger.give_back(A, ["t0"])
    assert [one.holder for one in ledger.standing().waiters] == [B, A]


NAMES = st.sampled_from(["x", "y"])
WANTS = st.dictionaries(NAMES, st.integers(1, 4), min_size=1)
HOLDERS = st.sampled_from([A, B, C])


@given(
    st.dictionaries(NAMES, st.integers(0, 5)),
    st.lists(st.builds(Share, HOLDERS, NAMES, st.integers(1, 3), st.just(0.0)), max_size=4),
    st.lists(
        st.builds(
            lambda holder, wants, priority, seen, turn: [
                Waiter(holder, name, wants, priority, 0.0, seen, turn) for name in wants
            ],
            HOLDERS,
            WANTS,
            st.integers(-1, 1),
            st.floats(80, 100),
            st.integers(1, 9),
        ),
        max_size=3,
    ),
    st.lists(st.tuples(WANTS, st.integers(-1, 1)), max_size=6),
)
def test_grants_are_never_over_a_limit(amounts: Any, shares: Any, waiters: Any, asks: Any) -> None:
    standing = Standing(amounts, shares, [one for some in waiters for one in some])
    granting = Granting(standing, A, 100.0)
    got = [granting.ask(str(n), f"0.{n}.1", wants, priority) for n, (wants, priority) in enumerate(asks)]
    total: Counter[str] = Counter()
    for one in granting.granted:
        total[one.name] += one.amount
    for name, amount in total.items():
        assert standing.held(name) + amount <= amounts[name]
    whole = {(str(n), name) for n, (wants, _) in enumerate(asks) if got[n] for name in wants}
    assert {(one.token, one.name) for one in granting.granted} == whole, "all that one wants, or none"


def test_who_comes_first_by_all_rules_gets_what_is_free() -> None:
    """Of those that wait for one limit alone, the first is granted: nobody waits for what nobody uses."""
    waiters = [Waiter(holder, "x", {"x": 1}, 0, 0.0, 99.0, turn) for turn, holder in enumerate((C, A, B))]
    standing = Standing({"x": 1}, [], waiters)
    assert [Granting(standing, holder, 100.0).ask("t", "0.t.1", {"x": 1}, 0) for holder in (C, A, B)] == [1, 0, 0]


def test_two_runs_that_come_first_for_one_limit_each_do_not_wait_for_each_other() -> None:
    both = {"x": 1, "y": 1}
    turns = [(A, "x", 2), (A, "y", 7), (B, "x", 4), (B, "y", 5)]
    standing = Standing(both, [], [Waiter(of, name, both, 0, 0.0, 99.0, turn) for of, name, turn in turns])
    assert Granting(standing, A, 100.0).ask("a", "0.a.1", both, 0)
    assert Granting(standing, B, 100.0).ask("b", "0.b.1", both, 0)
    # One that is behind nobody keeps its place.
    ahead = [*standing.waiters, Waiter(C, "x", {"x": 1}, 0, 0.0, 99.0, 1)]
    assert not Granting(standing._replace(waiters=ahead), B, 100.0).ask("b", "0.b.1", both, 0)


@given(st.dictionaries(HOLDERS, st.tuples(WANTS, st.integers(-1, 1)), min_size=1), st.permutations(range(6)))
def test_of_those_that_wait_for_what_nobody_holds_one_goes_on(asks: Any, turns: Any) -> None:
    """In whatever order they wait for one and for the other."""
    waiters = [
        Waiter(holder, name, wants, priority, 0.0, 99.0, turns[2 * "abc".index(holder.run_id) + (name == "y")])
        for holder, (wants, priority) in asks.items()
        for name in wants
    ]
    standing = Standing({"x": 4, "y": 4}, [], waiters)
    assert any(Granting(standing, holder, 100.0).ask("t", "0.t.1", *one) for holder, one in asks.items())


@given(st.data())
def test_each_asks_against_its_own_amount_and_gets_parts_of_its_own(data: Any) -> None:
    """Runs with offers of their own of the same limits, whose units are told apart or not."""
    pools = [("g:0",), ("g:0", "g:1"), ("g:1", "g:2", "g:3")]
    shares: list[Share] = []
    for n in range(data.draw(st.integers(1, 12))):
        holder, pool = data.draw(HOLDERS), data.draw(st.sampled_from(pools))
        cores = data.draw(st.integers(0, 6))
        wants = data.draw(st.dictionaries(st.sampled_from(["cores", "g"]), st.integers(1, 3), min_size=1))
        before = sum(share.amount for share in shares if share.name == "cores")
        taken = {share.name for share in shares}
        granting = Granting(Standing({}, shares, []), holder, 100.0)
        got = granting.ask(str(n), f"0.{n}.1", wants, 0, Offer({"cores": cores, "g": len(pool)}, {"g": pool}))
        fits = wants.get("cores", 0) + before <= cores if "cores" in wants else True
        assert got == (fits and wants.get("g", 0) <= len(set(pool) - taken))
        parts = [one.name for one in granting.granted if one.name != "cores"]
        assert len(parts) == len(set(parts)) == (wants.get("g", 0) if got else 0)
        assert set(parts) <= set(pool) - taken
        shares += [Share(one.holder, one.name, one.amount, 0.0) for one in granting.granted]


def test_killed_at_every_point_of_each_use_it_is_as_before_or_after(tmp_path: Path) -> None:
    uses = {
        "made": lambda ledger: ledger.set_amounts({"furnace": 2}),
        "reserved": lambda ledger: ask(ledger, A, "t2", 0, furnace=1),
        "given back": lambda ledger: ledger.give_back(A, ["t1"]),
    }
    killed = 0
    for name, use in uses.items():

        def prepared(base: Path, name: str = name) -> Ledger:
            if name == "made":
                return Ledger(base)
            ledger = Ledger(base)
            ledger.set_amounts({"furnace": 2})
            assert ask(ledger, A, "t1", 0, furnace=1)
            return ledger

        first = prepared(tmp_path / f"{name} first")
        before = (first.standing(), first.reservations())
        for point, hit in points_of(lambda use=use, first=first: use(first), tmp_path / f"{name} points"):  # type: ignore[misc]
            ledger = prepared(tmp_path / f"{name}.{point}.{hit}")
            killed += killed_at(point, hit, lambda use=use, ledger=ledger: use(ledger))  # type: ignore[misc]
            # To look changes nothing, also where a writer was killed; and either all landed, or nothing.
            there = {path: path.read_bytes() for path in ledger.workspace.glob("limits*")}
            assert (ledger.standing(), ledger.reservations()) in (before, (first.standing(), first.reservations()))
            assert there == {path: path.read_bytes() for path in ledger.workspace.glob("limits*")}
            if (ledger.standing(), ledger.reservations()) == before:
                use(ledger)
            assert (ledger.standing(), ledger.reservations()) == (first.standing(), first.reservations())
    assert killed >= 8


def test_eight_that_make_it_at_once_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_PATIENCE_S", 120.0)  # each waits for those before it, and for their disk
    pids = []
    for number in range(8):
        if not (pid := os.fork()):
            code = 1
            try:
                Ledger(tmp_path / "w").set_amounts({f"n{number}": number})
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 8
    assert Ledger(tmp_path / "w").standing().amounts == {f"n{number}": number for number in range(8)}
    there = {path.name for path in (tmp_path / "w").iterdir() if not path.name.endswith("-journal")}
    assert there == {"limits.sqlite", "runs"}


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE limits (name, amount)")


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


def _triggered(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER t AFTER INSERT ON reservations BEGIN DELETE FROM reservations; END")


def _without_a_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE waiting")


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (lambda path: path.write_bytes(b"not a database" * 100), DamagedStoreError, "is no database"),
        (lambda path: path.write_bytes(b""), DamagedStoreError, "is empty"),
        (lambda path: (path.unlink(), _foreign(path)), ForeignStoreError, "not one of limits"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), ForeignStoreError, "not a regular file"),
        (_newer, NewerStoreError, "version 2"),
        (_triggered, ForeignStoreError, "CREATE TRIGGER"),
        (_without_a_table, DamagedStoreError, "lacks"),
    ],
)
def test_what_is_no_ledger_of_ours_is_refused_with_its_bytes_unchanged(
    tmp_path: Path, damage: Any, error: type[StoreError], words: str
) -> None:
    ledger = ledger_of(tmp_path, furnace=1)
    damage(ledger.path)
    before = ledger.path.read_bytes()
    uses = [
        ledger.standing,
        ledger.reservations,
        lambda: ledger.set_amounts({"furnace": 2}),
        lambda: ask(ledger, A, "t", 0, furnace=1),
        lambda: ledger.tokens(A),
        lambda: ledger.give_back(A, ["t"]),
    ]
    for use in uses:
        with pytest.raises(error, match=words):
            use()
    assert ledger.path.read_bytes() == before


def test_no_descriptor_is_held_between_uses(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, furnace=1)
    assert ask(ledger, A, "t", 0, furnace=1)
    ledger.standing()
    open_now = {
        os.readlink(f"/proc/self/fd/{name}")
        for name in os.listdir("/proc/self/fd")
        if os.path.lexists(f"/proc/self/fd/{name}")
    }
    assert not any("limits.sqlite" in path for path in open_now)
    assert in_child(lambda: ask(Ledger(ledger.workspace), B, "u", 0, furnace=1)) == ENDED


def test_a_run_whose_daemon_looks_seldom_keeps_its_place(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, furnace=1)
    assert ask(ledger, A, "a1", 0, furnace=1)
    assert not ask(ledger, B, "b1", 0, furnace=1)
    ledger.stay_in_line(B, 45.0)
    ledger.stay_in_line(C, 45.0)  # it waits for nothing
    ledger.give_back(A, ["a1"])
    assert not ask(ledger, A, "a2", 30.0, furnace=1)
    assert {one.holder for one in ledger.standing().waiters} == {A, B}
    assert ask(ledger, B, "b1", 44.0, furnace=1)
