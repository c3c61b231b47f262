"""The wheel and the source archive, built and installed as a stranger would, and the quickstart in each."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from no_skips import NEVER_REQUIRED, NOT_REQUIRED
from packaging.metadata import Metadata
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = ("build", "uv")
OLDEST = 11
NEWEST = 15
VERSIONS = [f"3.{minor}" for minor in range(OLDEST, NEWEST + 1)]
#: Part of the tests, for the lowest versions of what the base and the notebook need: what leans on these most.
SAMPLE = (
    "tests/core/test_workflow.py",
    "tests/storage/test_looking.py",
    "tests/notebook/test_forms.py",
    "tests/notebook/test_timeline.py",
    "tests/notebook/test_views.py",
)
#: What of this process is none of theirs.
OURS = ("PYTHONPATH", "VIRTUAL_ENV", "MATTERSTACK_REQUIRE_ALL")

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED),
    reason=f"{NOT_REQUIRED}{' or '.join(NEEDED)} is not installed",
)


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Run a program as somebody who has nothing of this repository on the way to it."""
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env={**clean, "UV_PYTHON_DOWNLOADS": "never", "MPLBACKEND": "Agg", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def pythons() -> dict[str, str]:
    """Return the interpreters of this machine by version: that of the tests, those on the path, those of pyenv."""
    named = [found for version in VERSIONS if (found := shutil.which(f"python{version}"))]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found: dict[str, str] = {}
    for place in [sys.executable, *named, *map(str, sorted(pyenv.glob("versions/3.*/bin/python")))]:
        asked = [place, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
        said = subprocess.run(asked, capture_output=True, text=True)
        if said.returncode == 0:
            found.setdefault(said.stdout.strip(), place)
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the source archive, and the wheel that was built from it."""
    made = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--installer", "uv", "--outdir", made, ROOT, cwd=made)
    (archive,), (wheel,) = made.glob("*.tar.gz"), made.glob("*.whl")
    return archive, wheel


def environment(place: Path, python: str, *requirements: str, lowest: bool = False) -> Path:
    """Make an environment, and return its Python."""
    how = ("--resolution", "lowest-direct") if lowest else ()
    run(sys.executable, "-m", "uv", "venv", "-q", "--python", python, place, cwd=place.parent)
    run(sys.executable, "-m", "uv", "pip", "install", "-q", "--python", place, *how, *requirements, cwd=place.parent)
    return place / "bin/python"


def pass_quickstart(python: Path, place: Path) -> None:
    """Run the cells of the quickstart for two metals, and look at its run from a shell."""
    cells = json.loads((ROOT / "notebooks/01_quickstart.ipynb").read_text())["cells"]
    source = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    shorter = source.replace('METALS = ["Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au"]', 'METALS = ["Al", "Ni"]')
    assert shorter != source
    place.mkdir()
    (place / "quickstart.py").write_text(f"{shorter}\n\nprint(run.explain())\nprint(ms.__file__)\nprint(run.path)\n")
    *_, home, path = run(python, "quickstart.py", cwd=place).splitlines()
    assert Path(home).is_relative_to(python.parent.parent), "another package was imported than was installed"
    tasks = json.loads(run(python.with_name("matterstack"), "tasks", path, "--json", cwd=place))
    assert "fit-Ni" in json.dumps(tasks)
    assert "COMPLETED" in run(python.with_name("matterstack"), "status", path, cwd=place)


def listed() -> set[str]:
    if not (ROOT / ".git").exists():
        pytest.skip(f"{NEVER_REQUIRED}this is no repository")
    return set(run("git", "ls-files", cwd=ROOT).splitlines())


def test_the_wheel_has_the_package_with_its_data_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == {name for name in listed() if name.startswith("matterstack/")}
    assert {Path(name).suffix for name in names} >= {".sql", ".js", ".css", ".json", ".typed"}


def test_the_source_archive_is_the_whole_tree(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert names == listed() | {"PKG-INFO"}


def test_an_index_would_take_what_was_built(built: tuple[Path, Path]) -> None:
    """Both are read as twine reads them before it sends anything."""
    with tarfile.open(built[0]) as archive, zipfile.ZipFile(built[1]) as wheel:
        (told,) = (member for member in archive.getmembers() if member.name.endswith("/PKG-INFO"))
        texts = [wheel.read(name) for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        texts.append(archive.extractfile(told).read())  # type: ignore[union-attr]
    for text in texts:
        assert Metadata.from_email(text, validate=True).version == Version(PROJECT["version"])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_quickstart_passes_where_the_wheel_was_installed(
    version: str, built: tuple[Path, Path], tmp_path: Path
) -> None:
    if version not in (here := pythons()):
        pytest.skip(f"{NEVER_REQUIRED}there is no Python {version} here")
    python = environment(tmp_path / "environment", here[version], f"{built[1]}[notebook]")
    pass_quickstart(python, tmp_path / "elsewhere")


def test_the_lowest_versions_pass_the_quickstart_and_tests_of_the_source_archive(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    lowest = f"3.{OLDEST}"
    assert PROJECT["requires-python"] == f">={lowest}"
    if lowest not in (here := pythons()):
        pytest.skip(f"{NEVER_REQUIRED}there is no Python {lowest} here")
    tools = [one for one in PROJECT["optional-dependencies"]["test"] if one.startswith(("pytest>", "hypothesis>"))]
    assert len(tools) == 2
    python = environment(
        tmp_path / "environment", here[lowest], f"matterstack[notebook] @ {built[0].as_uri()}", *tools, lowest=True
    )
    pass_quickstart(python, tmp_path / "elsewhere")
    with tarfile.open(built[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.glob("matterstack-*")
    # The options of pyproject.toml ask for nbval, which a part of the tests does not need.
    done = run(python, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", *SAMPLE, cwd=tree)
    assert " passed" in done.splitlines()[-1], done[-500:]


def test_the_versions_that_pass_are_named_in_the_classifiers() -> None:
    named = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if "Python :: 3." in one]
    assert named
    assert [version for version in VERSIONS if version in pythons() and version not in named] == []
    assert set(named) <= set(VERSIONS)
