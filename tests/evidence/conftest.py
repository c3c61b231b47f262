"""The runs that tests of this folder look at, or copy to change the copy: each is made once."""

from __future__ import annotations

import evidence_lab
import pytest

import matterstack as ms


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> ms.Run:
    """Return a run that waits for a person."""
    return evidence_lab.make(tmp_path_factory.mktemp("asked"))


@pytest.fixture(scope="session")
def ended(tmp_path_factory: pytest.TempPathFactory) -> ms.Run:
    """Return a run that has come to its end."""
    base = tmp_path_factory.mktemp("ended")
    run = evidence_lab.make(base)
    evidence_lab.answer(run)
    evidence_lab.finish(run, base)
    return run


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> ms.Run:
    """Return one that was cleaned and packed after that."""
    base = tmp_path_factory.mktemp("packed")
    run = evidence_lab.make(base)
    evidence_lab.answer(run)
    evidence_lab.finish(run, base)
    assert run.clean(do=True).files
    run.pack()
    return run
