"""The calls by redun's executor ``process``: a pool of two workers, and its database in a file."""

from __future__ import annotations

import time

from asked import asked, tell
from redun import Scheduler, task
from redun.config import Config

redun_namespace = "calls"
_, function, _given = asked()


@task(executor="process")
def one(x):
    return function(x)


@task()
def all_of(given):
    return [one(x) for x in given]


def main(given):
    began = time.perf_counter()
    config = {
        "backend": {"db_uri": "sqlite:///redun.db"},
        "executors.default": {"type": "local", "mode": "thread", "max_workers": "1"},
        "executors.process": {"type": "local", "mode": "process", "max_workers": "2"},
    }
    scheduler = Scheduler(config=Config(config))
    scheduler.load()
    tell(began, scheduler.run(all_of(given)))


if __name__ == "__main__":
    import peer_redun  # the workers import it by this name, too

    peer_redun.main(peer_redun._given)
