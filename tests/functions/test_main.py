"""A task's directory by itself: `python task.py`, with nothing of MatterStack to be imported."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from matterstack.functions import codec, main, values
from matterstack.functions.codec import Encoder

Task = Callable[..., Path]

HEAD = '"""A task."""\n\nfrom __future__ import annotations\n\nimport matterstack_main\n'
END = '\nif __name__ == "__main__":\n    matterstack_main.run({run})\n'


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """Make the directory of a call."""

    def make(body: str, *args: Any, run: str = "work", **kwargs: Any) -> Path:
        directory = tmp_path / "attempt"
        directory.mkdir(exist_ok=True)
        shutil.copyfile(codec.__file__, directory / "matterstack_values.py")
        shutil.copyfile(main.__file__, directory / "matterstack_main.py")
        (directory / "task.py").write_text(HEAD + textwrap.dedent(body) + END.format(run=run))
        encoder = Encoder({dict: lambda plain: plain if "@" in plain else codec._dict(encoder, plain)})
        call = {"format": 1, "args": encoder.encode(list(args)), "kwargs": encoder.fields(kwargs)}
        (directory / "args.json").write_text(json.dumps(call))
        for name, content in encoder.arrays.items():
            (directory / "args").mkdir(exist_ok=True)
            (directory / "args" / name).write_bytes(content)
        return directory

    return make


def execute(directory: Path, *before: str, python: str = sys.executable, text: str = "") -> Any:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python, *before, "task.py"]
    return subprocess.run(
        command, cwd=directory, env=environment, input=text, capture_output=True, text=True, timeout=60
    )


def value_of(directory: Path) -> Any:
    return values.read_value(directory, trusted_packages=[])


def error_of(directory: Path) -> Any:
    assert not (directory / "value.json").exists()
    return json.loads((directory / "error.json").read_text())


RELAX = """
    import numpy as np

    def work(atoms, steps, scale=1.0):
        print("relaxing", len(atoms))
        return {"atoms": atoms, "energy_eV": np.float64(scale), "path": np.zeros(steps), "steps": steps}
"""


def test_a_call_leaves_its_value_its_scalars_and_what_it_printed(task: Task) -> None:
    directory = task(RELAX, Atoms("Cu2"), 20_000, scale=-3.5)
    for _ in range(2):  # and does it again
        done = execute(directory)
        assert (done.returncode, done.stdout, done.stderr) == (0, "relaxing 2\n", "")
        found = value_of(directory)
        assert found["atoms"] == Atoms("Cu2")
        assert found["path"].shape == (20_000,)
        assert json.loads((directory / "result.json").read_text()) == {"energy_eV": -3.5, "steps": 20_000}
    assert [name for name in os.listdir(directory) if name.startswith(".")] == [".matterstack"]
    made = json.loads((directory / ".matterstack/made.json").read_text())
    left = (directory / "value.json").read_bytes()
    assert made["files"]["value.json"] == [hashlib.sha256(left).hexdigest(), len(left)]


def test_the_debugger_of_python_does_it_again(task: Task) -> None:
    directory = task("def work(x):\n    return x * 2\n", 21)
    done = execute(directory, "-m", "pdb", text="b work\nc\np x\nc\nq\n")
    assert "\n(Pdb) 21" in done.stdout
    assert value_of(directory) == 42


def test_large_arguments_and_constants_come_from_files(task: Task) -> None:
    encoder = Encoder()
    constant = json.dumps(encoder.encode({"grid": np.arange(20_000)}))
    body = f"""
        GRID = matterstack_main.constant({constant!r})["grid"]

        def work(array):
            return int(array.sum() - GRID.sum())
    """
    directory = task(body, np.arange(20_000) + 1)
    for name, content in encoder.arrays.items():
        (directory / "args" / name).write_bytes(content)
    assert execute(directory).returncode == 0
    assert value_of(directory) == 20_000


def refer(task_id: str, *at: Any) -> Any:
    return {"@": "reference", "task": task_id, "at": list(at)}


def test_references_are_what_tasks_before_left(task: Task) -> None:
    before = {"energies": [1.5, (2, 3)], "big": np.arange(20_000)}
    refs = [refer("relax-Al", "energies", 1), refer("pick", "metals", 0), refer("lost", "x"), refer("lost")]
    directory = task("def work(*args):\n    return args\n", *refs, refer("relax-Al", "big"), [refer("pick")])
    (directory / "values" / "relax-Al").mkdir(parents=True)
    codec.write_value(str(directory / "values" / "relax-Al"), before)
    inputs = {
        "relax-Al": {"status": "COMPLETED", "directory": "../x", "data": {}},
        "pick": {"status": "COMPLETED", "directory": "../y", "data": {"metals": ["Cu"]}},
        "lost": {"status": "FAILED", "directory": None, "data": {}},
    }
    (directory / "inputs.json").write_text(json.dumps(inputs))
    assert execute(directory).returncode == 0
    found = value_of(directory)
    assert found[:4] == ((2, 3), "Cu", None, None)
    assert found[4].shape == (20_000,)
    assert found[5] == [{"metals": ["Cu"]}]


def test_an_item_that_is_not_there_is_named(task: Task) -> None:
    directory = task("def work(x):\n    return x\n", refer("pick", "metals", 3))
    inputs = {"pick": {"status": "COMPLETED", "directory": "../y", "data": {"metals": ["Cu"]}}}
    (directory / "inputs.json").write_text(json.dumps(inputs))
    assert execute(directory).returncode == 1
    assert "pick['metals'] has no item 3" in error_of(directory)["message"]


def test_the_users_own_classes_and_kinds_come_and_go(task: Task) -> None:
    body = """
        import dataclasses

        @dataclasses.dataclass
        class Cell:
            a: float

        class Model:
            def __init__(self, cutoff):
                self.cutoff = cutoff

        Cell.__module__ = "mylib"
        matterstack_main.register(Model, lambda model: model.cutoff, Model)

        def work(cell):
            assert type(cell) is Cell
            return [Cell(cell.a * 2), Model(5.0)]
    """
    cell = {"@": "dataclass", "class": "mylib:Cell", "fields": {"a": 1.5}}
    directory = task(body, cell, run="work, classes=[Cell]")
    done = execute(directory)
    assert done.returncode == 0, done.stderr
    first, second = values.read_value(directory, trusted_packages=None, raw=True)
    assert first == {"@": "dataclass", "class": "mylib:Cell", "fields": {"a": 3.0}}
    assert second == {"@": "registered", "class": "__main__:Model", "value": 5.0}


def test_modules_that_ride_along_come_first(task: Task) -> None:
    directory = task("import statistics\n\ndef work():\n    return statistics.NAME\n")
    (directory / "modules").mkdir()
    (directory / "modules" / "statistics.py").write_text("NAME = 'mine'\n")
    assert execute(directory).returncode == 0
    assert value_of(directory) == "mine"


FAILURES = {
    "raises": (
        "def work():\n    x = 1\n    raise ValueError('cell is singular')\n",
        {"type": "ValueError", "message": "cell is singular", "function": "work", "line": 3},
        "raise ValueError('cell is singular')",
    ),
    "in a helper": (
        "def work():\n    return helper()\n\ndef helper():\n    return [][1]\n",
        {"type": "IndexError", "function": "helper", "line": 2},
        "return [][1]",
    ),
    "in a library": (
        "import json\n\ndef work():\n    return json.loads('{')\n",
        {"type": "JSONDecodeError", "function": "work", "line": 2},
        "return json.loads('{')",
    ),
    "import": (
        "import no_such_library\n\ndef work():\n    return 1\n",
        {"type": "ModuleNotFoundError", "message": "No module named 'no_such_library'", "function": "<module>"},
        "import no_such_library",
    ),
    "cannot be written": (
        "def work():\n    return {'model': [object()]}\n",
        {"type": "NotWritableError", "function": None, "line": None},
        "",
    ),
    "sys.exit": (
        "import sys\n\ndef work():\n    sys.exit(0)\n",
        {"type": "NothingReturnedError", "function": "work", "line": 2},
        "sys.exit(0)",
    ),
    "arguments": ("def work(x):\n    return x\n", {"type": "TypeError", "function": None}, ""),
    "odd exception": (
        "class Odd(Exception):\n    def __str__(self):\n        raise KeyError\n\ndef work():\n    raise Odd\n",
        {"type": "Odd", "function": "work", "line": 2},
        "raise Odd",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_goes_wrong_is_told_by_the_users_own_line(task: Task, case: str) -> None:
    body, told, text = FAILURES[case]
    directory = task("def work():\n    return 1\n")
    assert execute(directory).returncode == 0
    directory = task(body)
    done = execute(directory)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    found = error_of(directory)
    assert {name: found[name] for name in told} == told
    assert found["text"] == text
    assert found["python"]["executable"] == sys.executable
    if case == "cannot be written":
        assert found["message"].startswith("work()['model'][0] is a object, which cannot be written down exactly: ")
        assert not (directory / "result.json").exists()


def test_arguments_that_were_changed_are_told(task: Task) -> None:
    directory = task("def work(x):\n    return x\n", np.arange(20_000))
    (name,) = os.listdir(directory / "args")
    (directory / "args" / name).write_bytes(b"other")
    assert execute(directory).returncode == 1
    assert f"argument 1 cannot be read: {name} has another content" in error_of(directory)["message"]


def test_a_disk_that_takes_no_error_is_left_as_it_was(task: Task) -> None:
    full = "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    directory = task(f"import resource\n\ndef work():\n    {full}\n    raise ValueError('why')\n")
    before = set(os.listdir(directory))
    done = execute(directory)
    assert "error.json could not be written" in done.stderr
    assert "ValueError: why" in done.stderr
    with open(directory / "stderr.txt", "wb") as file:  # on the same disk
        subprocess.run([sys.executable, "task.py"], cwd=directory, stderr=file, timeout=60)
    assert set(os.listdir(directory)) - before <= {"__pycache__", ".matterstack", "stderr.txt"}


def test_output_goes_where_the_task_lies_whatever_the_function_does(task: Task) -> None:
    directory = task("import os\n\ndef work():\n    os.chdir('/')\n    return 1\n")
    assert execute(directory).returncode == 0
    assert value_of(directory) == 1


def test_a_call_of_plain_values_imports_nothing_else(task: Task) -> None:
    directory = task("def work(x, name):\n    return {'x': x, 'name': name}\n", 1.5, name="Al")
    whole, bare = (
        {
            line.rpartition("|")[2].strip()
            for line in execute(directory, "-X", "importtime", *before).stderr.splitlines()
        }
        for before in ((), ("-c", "pass"))
    )
    sha256 = (
        "_sha2" if sys.version_info >= (3, 12) else "_sha256"
    )  # of what it leaves; hashlib takes as long as the rest
    assert whole - bare == {"__future__", "matterstack_main", "matterstack_values", "_json", sha256}
    assert value_of(directory) == {"x": 1.5, "name": "Al"}
