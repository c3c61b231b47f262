"""Where everything is said to be installed, a skip is a failure."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where everything is said to be installed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("MATTERSTACK_REQUIRE_ALL"):
        report.outcome = "failed"
        report.longrepr = f"skipped where MATTERSTACK_REQUIRE_ALL is set: {report.longrepr}"
    return report
