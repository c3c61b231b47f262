"""One campaign in MatterStack and in five other tools, each run, run again, killed and gone on with. Prints Markdown.

``python tests/benchmarks/coming_from/compare.py`` makes an environment for each tool below ``--work``, at the versions
below; ``--only parsl`` runs that one alone, and ``--json FILE`` keeps all that was seen. docs/coming-from.md shows what
it printed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from benchmark import environment, machine, own_environment  # noqa: E402
from observe import Campaign, kill_and_go_on, lines_of_code, run_to_the_end, run_with_live_calculator  # noqa: E402

ASE = "ase==3.29.0"
REQUIREMENTS = {
    "matterstack": [ASE],
    "jobflow": ["jobflow==0.4.0", ASE],
    "parsl": ["parsl==2026.10.26", ASE],
    "executorlib": ["executorlib[cache]==1.11.0", ASE],
    "redun": ["redun==0.44.1", ASE],
    "pyiron_workflow": ["pyiron_workflow[fleche]==0.20.3", "fleche[cloudpickle]==0.22.1", ASE],
}
SCENARIOS = {"end": run_to_the_end, "kill": kill_and_go_on, "live": run_with_live_calculator}


def script_of(tool: str) -> Path:
    """Return the script of a tool."""
    return HERE / ("ours.py" if tool == "matterstack" else f"peer_{tool}.py")


def campaign(tool: str, python: Path, directory: Path) -> Campaign:
    """Return the campaign of a tool, with a copy of its script in the directory it runs in, as a user would have it."""
    place = directory / "campaign"
    place.mkdir(parents=True)
    for path in (script_of(tool), HERE / "copper.py"):
        shutil.copy(path, directory)
    script = str(directory / script_of(tool).name)
    path = {"PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(directory)}
    path["PYTHONDONTWRITEBYTECODE"] = "1"
    if tool == "redun":
        return Campaign(directory, [str(python.parent / "redun"), "run", script, "main"], environment=path)
    command = [str(python), script]
    if tool == "matterstack":

        def again(where: Path) -> list[str]:
            (run,) = where.glob("workspaces/copper/runs/*")
            return [*command, str(run)]

        return Campaign(directory, command, again, path)
    return Campaign(directory, command, environment=path)


def observe(tool: str, work: Path, base: Path) -> dict[str, Any]:
    """Return all facts of a tool, or why it could not be installed."""
    try:
        python = (
            own_environment(work, requirements=REQUIREMENTS[tool])
            if tool == "matterstack"
            else environment(work, tool, REQUIREMENTS[tool])
        )
    except subprocess.CalledProcessError as error:
        return {"not installed": str(error)}
    facts: dict[str, Any] = {"lines": lines_of_code(script_of(tool))}
    for name, scenario in SCENARIOS.items():
        made = campaign(tool, python, base / tool / name)
        try:
            facts[name] = scenario(made)
        finally:
            made.end_all()
    return facts


def names(calls: list[str]) -> str:
    """Return calls as words."""
    return ", ".join(calls) if calls else "none"


def rows(facts: dict[str, Any]) -> dict[str, str]:
    """Return the column of a tool."""
    if "not installed" in facts:
        return {"installed": "no"}
    end, kill, live = facts["end"], facts["kill"], facts["live"]
    left = ", ".join(f"`{name}`" for name in end["names"])
    return {
        "lines of code": str(facts["lines"]),
        "what the fit got": str(end["fit"]),
        "... where members keep their EMT calculator": live_words(live),
        "one member fails: of 5 others done": str(end["members done"]),
        "... the driver shows why": words(end["driver tells of the failure"]),
        "... why, on disk": places(end["text of the failure in"]),
        "on disk afterwards": f"{end['files']} files, {end['kB']} kB: {left}",
        "... a member's energy as text": places(end["energies as text in"]),
        "run again after its end: called again": names(end["begun again after the end"]),
        "driver killed: done by then": names(kill["done before"]),
        "... the member in flight goes on to its end": words(kill["the member in flight ended"]),
        "... processes left 150 s later": str(kill["processes left"]),
        "gone on with: exit code": str(kill["exit code, going on"]),
        "... called again, though done": names(kill["done again"]),
        "... the member in flight called again": words(kill["member in flight begun again"]),
        "... the fit": "the same" if kill["fit"] == end["fit"] else str(kill["fit"]),
    }


def words(fact: bool) -> str:
    """Return yes or no."""
    return "yes" if fact else "no"


def places(paths: list[str]) -> str:
    """Return where something is, by the pattern of the names: what differs from run to run is left out."""
    shown = sorted({f"`{Path(path).name}`" for path in paths})
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "") if shown else "nowhere"


def live_words(live: dict[str, Any]) -> str:
    """Return what became of cells with a live calculator."""
    if live["fit"]:
        return str(live["fit"])
    ended = "does not end within two minutes" if live["exit code"] is None else f"exit code {live['exit code']}"
    return ended + "".join(f"; {error['in']}: `{error['line']}`" for error in live["errors"])


def main() -> None:
    """Observe, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(REQUIREMENTS), choices=list(REQUIREMENTS))
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "matterstack-benchmark")
    parser.add_argument("--json", type=Path, help="keep all that was seen here")
    given = parser.parse_args()
    seen = {}
    with tempfile.TemporaryDirectory() as base:
        for tool in given.only:
            print(f"{tool} ...", file=sys.stderr, flush=True)
            seen[tool] = observe(tool, given.work, Path(base))
    if given.json:
        given.json.write_text(json.dumps(seen, indent=1))
    print_table(seen)


def print_table(seen: dict[str, dict[str, Any]]) -> None:
    """Print the table of the page."""
    columns = {tool: rows(facts) for tool, facts in seen.items()}
    wanted = dict.fromkeys(requirement for tool in seen for requirement in REQUIREMENTS[tool])
    print(f"Observed {machine()}; {', '.join(wanted)}.\n")
    print(f"| | {' | '.join(seen)} |\n|{'---|' * (len(seen) + 1)}")
    for row in dict.fromkeys(row for column in columns.values() for row in column):
        print(f"| {row} | {' | '.join(column.get(row, '-') for column in columns.values())} |")


if __name__ == "__main__":
    main()
