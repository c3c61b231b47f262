"""Where everything is said to be installed, a skip is a failure."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

#: How the reason of a skip begins where `.ci/run` runs that test in its second environment, which requires everything.
NOT_REQUIRED = "not required: "
#: How the reason of a skip begins that is none anywhere: of what a machine may have, and nothing installs.
NEVER_REQUIRED = "never required: "


def _is_required(report: pytest.TestReport) -> bool:
    required = os.environ.get("MATTERSTACK_REQUIRE_ALL", "")
    if NEVER_REQUIRED in str(report.longrepr):
        return False
    return required == "everything" or (bool(required) and NOT_REQUIRED not in str(report.longrepr))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where everything is said to be installed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and _is_required(report):
        report.outcome = "failed"
        report.longrepr = f"skipped where MATTERSTACK_REQUIRE_ALL is set: {report.longrepr}"
    return report
