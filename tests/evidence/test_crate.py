"""The RO-Crate of an export: accepted by roc-validator after the provenance profile, and right in what it says."""

from __future__ import annotations

import hashlib
import io
import json
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import matterstack as ms

pytest.importorskip("rocrate")

#: As files are called, and as a URI cannot have it.
ODD = ["a b.txt", "100%25.txt", "caf\u00e9 #1?.txt", "c:con.txt", " lead", "<x>/y[1].txt"]
CONTEXT = "https://w3id.org/ro/crate/1.1/context"


def graph_of(home: Path) -> dict[str, dict[str, Any]]:
    said = json.loads((home / "ro-crate-metadata.json").read_text())
    return {entity["@id"]: entity for entity in said["@graph"]}


def test_the_crate_says_who_did_what_with_which_bytes(ended: ms.Run, tmp_path: Path) -> None:
    home = ended.export(tmp_path / "e")
    graph = graph_of(home)
    tokens = ended.attempts["token"]
    bands = graph[f"#{tokens['0.bands.1']}"]
    assert bands["@type"] == "CreateAction"
    assert bands["actionStatus"].endswith("CompletedActionStatus")
    left = {graph[one["@id"]]["name"]: graph[one["@id"]] for one in bands["result"]}
    content = (home / "operators/local/0.bands.1/bands.txt").read_bytes()
    assert left["operators/local/0.bands.1/bands.txt"]["sha256"] == hashlib.sha256(content).hexdigest()
    relax = graph[f"#{tokens['0.relax-Al.1']}"]
    took = {one["@id"] for one in bands["object"]}
    assert took & {one["@id"] for one in relax["result"]}  # one takes what the other left: the same entity
    assert graph[relax["instrument"]["@id"]]["name"] == "relax()"
    failed = graph[f"#{tokens['0.doomed.2']}"]
    assert failed["actionStatus"].endswith("FailedActionStatus")
    assert "SCF did not converge" in failed["error"]
    asked = graph[f"#{tokens['0.pick.1']}"]
    assert graph[asked["agent"]["@id"]]["@type"] == "Person"
    assert {graph[one["@id"]]["@type"] for one in graph["#engine"]["object"]} == {"ControlAction"}
    assert graph[graph["./"]["mainEntity"]["@id"]]["name"] == "Metals"
    assert not [path for path in graph if path.startswith("operators/") and not (home / path).is_file()]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> ms.Run:
    """Return a run of one workflow, whose files are called oddly."""
    command = f"mkdir '<x>'; for name in {shlex.join(ODD)}; do echo $name > \"$name\"; done"
    flow = ms.Workflow([ms.Task("a", command, outputs=ODD), ms.Task("b", "false")])
    run = ms.initialize_run("w", flow, base_path=tmp_path_factory.mktemp("odd"))
    run.wait(timeout_s=180)
    return run


def test_files_are_found_by_their_uris_whatever_they_are_called(odd: ms.Run, tmp_path: Path) -> None:
    home = odd.export(tmp_path / "e")
    files = [path for path, entity in graph_of(home).items() if "File" in entity["@type"]]
    assert {unquote(path) for path in files} >= {f"operators/local/0.a.1/{name}" for name in ODD}
    for path in files:
        assert (home / unquote(path)).is_file(), path
        assert not set(path) & set(" #?:<>[]"), path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fill the validator's cache with the one thing that it wants from the network: the context of RO-Crate 1.1."""
    pytest.importorskip("rocrate_validator", reason="not required: roc-validator is not installed")
    import requests
    import urllib3
    from requests_cache import CachedSession

    content = (Path(__file__).parent / "data" / "ro-crate-1.1-context.jsonld").read_bytes()

    class Local(requests.adapters.HTTPAdapter):
        def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
            assert request.url == CONTEXT
            headers = {"Content-Type": "application/ld+json"}
            raw = urllib3.HTTPResponse(io.BytesIO(content), headers, 200, preload_content=False)
            return self.build_response(request, raw)

    path = tmp_path_factory.mktemp("cache") / "http"
    with CachedSession(str(path), backend="sqlite", expire_after=-1) as session:
        session.mount("https://", Local())
        session.get(CONTEXT, headers={"Accept": "application/ld+json, application/json, */*;q=0.1"})
    return path


def issues_of(home: Path, cache: Path, profile: str = "provenance-run-crate") -> list[str]:
    """Return what roc-validator finds against what a profile requires, without the network."""
    from rocrate_validator import models, services

    settings = services.ValidationSettings(
        rocrate_uri=str(home),
        profile_identifier=profile,
        requirement_severity=models.Severity.REQUIRED,
        offline=True,
        cache_path=cache,
    )
    return [f"{issue.severity.name}: {issue.message}" for issue in services.validate(settings).get_issues()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", ["ended all", "packed none", "odd all"])
def test_roc_validator_accepts_it(
    which: str, ended: ms.Run, packed: ms.Run, odd: ms.Run, cache: Path, tmp_path: Path
) -> None:
    name, _, files = which.partition(" ")
    home = {"ended": ended, "packed": packed, "odd": odd}[name].export(tmp_path / "e", files=files)
    assert issues_of(home, cache) == []


@pytest.mark.filterwarnings("ignore")
def test_a_run_of_which_nothing_was_begun_is_a_workflow_and_claims_no_more(cache: Path, tmp_path: Path) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path)
    home = run.export(tmp_path / "e")
    graph = graph_of(home)
    assert [one["@id"] for one in graph["./"]["conformsTo"]] == ["https://w3id.org/workflowhub/workflow-ro-crate/1.0"]
    assert not [entity for entity in graph.values() if "Action" in str(entity["@type"])]
    assert issues_of(home, cache, "workflow-ro-crate") == []


@pytest.mark.filterwarnings("ignore")
def test_roc_validator_refuses_what_is_wrong(ended: ms.Run, cache: Path, tmp_path: Path) -> None:
    """So that the test before says something."""
    home = ended.export(tmp_path / "e")
    path = home / "ro-crate-metadata.json"
    said = json.loads(path.read_text())
    for entity in said["@graph"]:
        if entity["@type"] == "ControlAction":
            del entity["instrument"]
    path.write_text(json.dumps(said))
    assert any("ControlAction must reference a HowToStep" in issue for issue in issues_of(home, cache))
