"""The lists of dependencies agree, and the tree is what it says it is."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import yaml

import matterstack

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: What conda-forge calls otherwise.
CONDA_NAMES = {"matplotlib-base": "matplotlib"}


def parsed(requirements: list[str]) -> dict[str, str]:
    found = {}
    for requirement in requirements:
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", requirement.strip())
        assert match, requirement
        found[CONDA_NAMES.get(match.group(1), match.group(1)).lower()] = match.group(2)
    return found


def test_conda_gives_what_pip_gives() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = parsed([entry for entry in environment if isinstance(entry, str) and entry != "pip"])
    extras = PROJECT["optional-dependencies"]
    pip = parsed([*PROJECT["dependencies"], *extras["notebook"], *extras["dask"], *extras["excel"], *extras["test"]])
    pip.pop("matterstack")
    pip.pop("matterstack[notebook]", None)
    pip.pop("matterstack", None)
    assert conda.pop("python") == PROJECT["requires-python"]
    assert {"pip": ["-e .[evidence]"]} in environment
    assert "matterstack[notebook,dask,excel,evidence]" in extras["test"]
    # conda-forge has an extra of a package as a package of its own.
    conda["jsonschema"] = "[format-nongpl]" + conda.pop("jsonschema-with-format-nongpl")
    assert conda == {name.removesuffix("[notebook]"): bounds for name, bounds in pip.items()}


def test_version_and_licence() -> None:
    assert matterstack.__version__ == PROJECT["version"] == metadata("matterstack")["Version"] == "0.2.1"
    assert PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


def test_core_dependencies_are_these_eight() -> None:
    core = {"anywidget", "argcomplete", "filelock", "ipywidgets", "jsonschema", "networkx", "pandas", "rich"}
    assert set(parsed(PROJECT["dependencies"])) == core


def test_top_level_folders() -> None:
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        folders = {line.split("/")[0] for line in listed.splitlines() if "/" in line}
    else:
        folders = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".")} | {".ci"}
    assert folders == {"matterstack", "notebooks", "tests", "docs", ".ci"}


def test_ci_calls_the_test_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text().splitlines()
    commands = [line for line in readme if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith("jupyter lab notebooks/01_quickstart.ipynb")
    pattern = re.search(r'grep -E "(.*)" README.md', (ROOT / ".ci/run").read_text())
    assert pattern
    matching = subprocess.run(
        ["grep", "-E", pattern.group(1), "README.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert matching == [commands[1]]
