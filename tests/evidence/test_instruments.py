"""What an instrument measured is evidence as well: who gave it, its bytes, its files; and it is verified."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from evidence_lab import copied

import matterstack as ms
from matterstack.evidence.sums import is_evidence, sums_of

SCAN = b"43.3 100\n50.4 46\n"
HOME = "operators/lab/0.xrd.1"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> ms.Run:
    """Return a run of one measurement, of which no words were made: its parameters say all."""
    base = tmp_path_factory.mktemp("measured")
    flow = ms.Workflow([ms.Task("xrd", operator="lab", parameters={"sample": "Cu"})])
    run = ms.initialize_run("w", flow, operators={"lab": ms.ExperimentOperator()}, base_path=base, run_id="r")
    run.step()
    request = json.loads((run.path / HOME / "experiment_request.json").read_text())
    (run.path / HOME / "experiment_ack.json").write_text("{}")
    (run.path / HOME / "scan.xy").write_bytes(SCAN)
    files = [{"path": "scan.xy", "sha256": hashlib.sha256(SCAN).hexdigest()}]
    result = {"token": request["token"], "status": "COMPLETED", "data": {"a_ang": 3.61}, "files": files}
    (run.path / HOME / "experiment_result.json").write_text(json.dumps(result))
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    return run


def test_an_export_says_who_measured_what_with_which_bytes(measured: ms.Run, tmp_path: Path) -> None:
    home = measured.export(tmp_path / "e")
    (attempt,) = json.loads((home / "evidence.json").read_text())["attempts"]
    scan, result = (hashlib.sha256((home / HOME / name).read_bytes()).hexdigest() for name in (
        "scan.xy", "experiment_result.json",
    ))  # fmt: skip
    assert attempt["outputs"] == [{"name": "scan.xy", "path": f"{HOME}/scan.xy", "sha256": scan, "bytes": None}]
    assert (attempt["answer"]["outcome"], attempt["answer"]["sha256"]) == ("accepted", result)
    assert attempt["answer"]["by"] == (measured.path / HOME / "experiment_result.json").owner()
    page = (home / "report.html").read_text()
    assert scan in page
    assert result in page
    assert scan in (home / "tables/outputs.csv").read_text()
    assert "a_ang 3.61</td>" in page  # its files are in a table of their own
    assert measured.verify().counts == {"as recorded": 3}
    assert ms.open_run(home).verify().counts == {"as recorded": 3 + sum(map(is_evidence, sums_of(home)))}


@pytest.mark.parametrize("harm", ["scan", "result", "result and verdict"])
def test_what_was_changed_of_a_measurement_is_named(harm: str, measured: ms.Run, tmp_path: Path) -> None:
    run = copied(measured, tmp_path)
    home = run.path / HOME
    (kept,) = (home / ".matterstack/accepted").iterdir()
    if harm == "scan":
        path = home / "scan.xy"
        path.write_bytes(b"43.3 1\n")
    else:
        path = kept
        content = kept.read_text().replace("3.61", "3.62")
        if harm == "result and verdict":
            kept.unlink()
            sha256 = hashlib.sha256(content.encode()).hexdigest()
            path = kept.with_name(f"{sha256}.json")
            verdict = (home / ".matterstack/verdict.json").read_text().replace(kept.stem, sha256)
            (home / ".matterstack/verdict.json").write_text(verdict)
        path.unlink(missing_ok=True)
        path.write_text(content)
    assert [(one.path, one.status) for one in run.verify().differ] == [
        (path.relative_to(run.path).as_posix(), "changed")
    ]
