"""What all tests share."""

from __future__ import annotations

import os
import signal
import tempfile

from hypothesis import HealthCheck, settings
from no_skips import pytest_runtest_makereport
from small_disk import small_disk

# What tests trust is no business of whoever runs them; the processes that they start see the same.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="matterstack-test-state-")
# Nor what they hold of the machine.
os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="matterstack-test-runtime-")

# What a script starts in the background ignores SIGINT, and so would all that tests start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Machines are shared: how long an example takes says nothing. A change is judged by examples that stay the same; who
# calls pytest by hand looks at others each time.
settings.register_profile(
    "shared",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="MATTERSTACK_REQUIRE_ALL" in os.environ,
)
settings.load_profile("shared")

__all__ = ["pytest_runtest_makereport", "small_disk"]
