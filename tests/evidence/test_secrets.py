"""Values that are named by ``env:`` stay where tasks run: none is in an export, nor in what of ours stays behind."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import pytest
from evidence_lab import SECRET, holders

import matterstack as ms

#: Of a variable that a run records on its user's word, by a name that tells nothing: for a daemon, and for nobody else.
DOOR = "door-code-4711-0815"


@ms.task(env={"TOKEN": "env:LAB_TOKEN"}, retries=1)
def signed(number: int) -> dict[str, int]:
    """Fail once where the secret is in the environment, so that errors are recorded too."""
    import os

    if os.environ["MATTERSTACK_ATTEMPT"] == "1":
        raise RuntimeError(f"the token has {len(os.environ['TOKEN'])} letters")
    return {"letters": len(os.environ["TOKEN"]) + number}


def planted(base: Path) -> ms.Run:
    """Return a run whose tasks of each kind had the secret in their environment, and failed, and were mended."""
    secret = {"TOKEN": "env:LAB_TOKEN", "DOOR": "env:LAB_DOOR"}
    flow = ms.Workflow(
        [
            ms.Task("uses", 'printf "%s" "$TOKEN" | sha256sum > sum.txt', env=secret, outputs=["sum.txt"]),
            ms.Task("fails", 'test -z "$TOKEN"', env=secret, allow_failure=True, cache=True),
            ms.Task("carried", 'test -n "$TOKEN"', env=secret, operator="cluster"),
            ms.Task("asked", operator="people", instructions="?", schema={"type": "object"}),
            ms.Task("measured", operator="lab", env=secret, timeout_s=0.2, allow_failure=True),
        ]
    )
    flow.add("signed", signed, 1)
    operators = {
        "local": ms.LocalOperator(),
        "cluster": ms.ManualHPCOperator(),
        "people": ms.HumanOperator(),
        "lab": ms.ExperimentOperator(),
    }
    config = {"environment": ["LAB_TOKEN", "LAB_*"]}
    run = ms.initialize_run(
        "w", flow, operators=operators, config=config, base_path=base, run_id="r", cache=base / "cache"
    )
    run.wait(timeout_s=180)
    run.respond("asked", {"ok": True})
    run.export_kits(base / "kits.zip")
    subprocess.run(["python3", "-m", "zipfile", "-e", base / "kits.zip", base / "away"], check=True)
    subprocess.run(["sh", "submit.sh"], cwd=base / "away/0.carried.1", check=True)
    subprocess.run(["python3", "-m", "zipfile", "-c", base / "back.zip", base / "away/0.carried.1"], check=True)
    run.import_kits(base / "back.zip")
    run.wait(timeout_s=180)
    return run


def test_no_secret_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("LAB_TOKEN", SECRET)
    monkeypatch.setenv("LAB_API_KEY", SECRET)
    monkeypatch.setenv("LAB_DOOR", DOOR)
    with caplog.at_level(logging.DEBUG):
        run = planted(tmp_path / "base")
    assert run.value("signed") == {"letters": len(SECRET) + 1}
    assert (run.path / "operators/local/0.uses.1/sum.txt").read_text().split()[0]
    homes = [run.export(tmp_path / files, files=files) for files in ("all", "declared")]
    for home in homes:
        assert b"env:LAB_TOKEN" in (home / "state.sqlite").read_bytes()
        assert holders(home) == holders(home, DOOR) == []
    assert holders(run.path, DOOR) == ["config.json"]
    # Nor is it in what stays behind: database, journal and log of the runner, settings, kits, cache.
    assert holders(tmp_path / "base") == []
    assert SECRET not in caplog.text
    assert SECRET not in repr(run.explain()) + repr(run.verify()) + str(run.attempts.to_dict())


def test_what_a_command_prints_is_its_authors_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_TOKEN", SECRET)
    flow = ms.Workflow([ms.Task("tells", 'echo "$TOKEN"', env={"TOKEN": "env:LAB_TOKEN", "PLAIN": "plain-word"})])
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    run.wait(timeout_s=180)
    home = run.export(tmp_path / "all", files="all")
    assert holders(home) == ["stdout.txt"]
    assert holders(run.export(tmp_path / "declared")) == []
    assert b"plain-word" in (home / "state.sqlite").read_bytes()
    assert "What a command prints" in (home / "report.html").read_text()
