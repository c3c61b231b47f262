"""What a campaign makes best is kept with the run; charts of results follow it, and read only what is new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import matterstack as ms
from matterstack import errors


def gives(task_id: str, **data: Any) -> ms.Task:
    """Return a task whose result is this."""
    return ms.Task(task_id, f"cat > result.json <<'END'\n{json.dumps(data)}\nEND")


# -- what is to be made best -----------------------------------------------------------------


class Search(ms.Campaign):
    target = {"strength": "max", "cost": "min"}  # noqa: RUF012 (as one writes it)

    def plan(self, state: Any) -> ms.Workflow | None:
        return None if state else ms.Workflow([gives("a", strength=1, cost=2)])

    def analyze(self, state: Any, results: Any) -> Any:
        return {"over": True}


def test_a_colleague_sees_the_target_without_the_campaign(tmp_path: Path) -> None:
    run = ms.initialize_run("w", Search(), base_path=tmp_path)
    assert run.target == {"strength": "max", "cost": "min"}
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps({**config, "campaign": None}))
    assert dict(ms.open_run(run.path).target) == dict(run.target)
    flow = ms.Workflow([gives("a", strength=1)])
    assert ms.initialize_run("w", flow, base_path=tmp_path).target == {}
    assert ms.initialize_run("w", flow, base_path=tmp_path, config={"target": {"x": "min"}}).target == {"x": "min"}


@pytest.mark.parametrize(
    "target", ["strength", {"strength": "high"}, {"": "max"}, {7: "max"}, {"a": None}, ["a"], None]
)
def test_a_target_that_makes_no_sense_makes_no_run(tmp_path: Path, target: Any) -> None:
    campaign = Search()
    campaign.target = target
    with pytest.raises(errors.InvalidConfigError, match=r"Search\.target"):
        ms.initialize_run("w", campaign, base_path=tmp_path)
    with pytest.raises(errors.InvalidConfigError, match="config: target"):
        ms.initialize_run("w", Search(), base_path=tmp_path, config={"target": target})
    assert not list(tmp_path.iterdir())
