"""What all tests share."""

from __future__ import annotations

from no_skips import pytest_runtest_makereport

__all__ = ["pytest_runtest_makereport"]
