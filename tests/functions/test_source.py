"""Functions are written down as programs that do the same elsewhere, or are refused by what is in the way."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import odd_functions
import pytest
from nbclient import NotebookClient

from matterstack.errors import FunctionSourceError
from matterstack.functions import codec, main, source
from matterstack.functions.source import Code, capture

#: What keeps MatterStack out of a task, as on a machine without it.
WITHOUT = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "matterstack":
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Without())
"""


def written(code: Code, directory: Path, args: tuple[Any, ...] = ()) -> Path:
    """Write a task's files as its attempt has them."""
    encoder = codec.Encoder()
    call = {"format": 1, "args": [encoder.encode(argument) for argument in args], "kwargs": {}}
    files = {
        "task.py": code.text.encode(),
        "args.json": json.dumps(call).encode(),
        "matterstack_values.py": Path(codec.__file__).read_bytes(),
        "matterstack_main.py": Path(main.__file__).read_bytes(),
        **code.modules,
        **{f"args/{name}": content for name, content in {**code.arrays, **encoder.arrays}.items()},
    }
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return directory


def run(directory: Path) -> subprocess.CompletedProcess[str]:
    without = directory.parent / "without"
    without.mkdir(exist_ok=True)
    (without / "sitecustomize.py").write_text(WITHOUT)
    env = {**os.environ, "PYTHONPATH": str(without), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "task.py"], cwd=directory, env=env, capture_output=True, text=True, timeout=60
    )


def value_of(code: Code, directory: Path, *args: Any) -> Any:
    """Run a task, and return its value as plain JSON."""
    done = run(written(code, directory, args))
    assert done.returncode == 0, f"{done.stderr}\n{code.text}"
    return json.loads((directory / "value.json").read_text())["value"]


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "decorated",
        "twice_decorated",
        "wrapped",
        "hidden",
        "constants",
        "imports",
        "structures",
        "helpers",
        "recursive",
        "is_odd",
        "fibonacci",
        "classes",
        "odd_syntax",
        "Größe",
        "asserts",
        "points",
        "more_classes",
        "statistics",
        "squared",
    ],
)
def test_an_odd_function_gives_there_what_it_gives_here(name: str, tmp_path: Path) -> None:
    function = getattr(odd_functions, name)
    args = (
        (3,)
        if name in {"plain", "decorated", "twice_decorated", "wrapped", "hidden", "is_odd", "fibonacci", "squared"}
        else ()
    )
    code = capture(function)
    assert "__annotations__" not in code.text
    here = codec.Encoder().encode(function(*args))
    assert value_of(code, tmp_path / "task", *args) == json.loads(json.dumps(here))
    assert capture(function) == code


# -- modules that are written for a test --------------------------------------------------------


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Any]]:
    """Write modules beside a notebook, and import them."""
    folder = tmp_path / "beside"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    # Bytecode is taken for that of any source of its second and size, and some of these are edited within one.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = []

    def write(name: str, text: str) -> Any:
        (folder / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        made.append(name)
        return importlib.import_module(name)

    yield write
    for name in made:
        sys.modules.pop(name, None)


REFUSED = {
    "a lock": (
        "import threading\nmodel = threading.Lock()\ndef f(x):\n    y = x\n    return model",
        ["f uses 'model'", "line 3: return model", "_thread.lock", "inside of f"],
    ),
    "an open file": ("import sys\nlog = sys.__stderr__\ndef f():\n    log.write('')", ["'log'", "line 2"]),
    "a database": (
        "import sqlite3\nbase = sqlite3.connect(':memory:')\ndef f():\n    return base",
        ["'base'", "sqlite3.Connection"],
    ),
    "in a helper": (
        "import threading\nlock = threading.Lock()\ndef g():\n    return lock\ndef f():\n    return g()",
        ["g uses 'lock'"],
    ),
    "nothing of that name": ("def f():\n    return 1 + nowhere", ["f uses 'nowhere'", "line 2", "defined nowhere"]),
    "a lambda": ("f = lambda x: x", ["lambda", "def"]),
    "a lambda as helper": ("g = lambda x: x\ndef f():\n    return g(1)", ["lambda", "def"]),
    "a generator": ("def f():\n    yield 1", ["generator", "list"]),
    "an async function": ("async def f():\n    return 1", ["async", "asyncio.run"]),
    "an async generator": ("async def f():\n    yield 1", ["generator"]),
    "a builtin": ("f = len", ["len", "write a function"]),
    "a class": ("class f:\n    pass", ["f is a class"]),
    "a method": ("class C:\n    def m(self):\n        return 1\nf = C().m", ["C.m is a method of an object"]),
    "a function of a class": ("class C:\n    def m(self):\n        return 1\nf = C.m", ["C.m is a method"]),
    "a partial": ("import functools\ndef g(x):\n    return x\nf = functools.partial(g, 1)", ["partial"]),
    "a partial as helper": (
        "import functools\ndef g(x):\n    return x\nh = functools.partial(g, 1)\ndef f():\n    return h()",
        ["'h'", "functools.partial"],
    ),
    "an object that is called": (
        "class C:\n    def __call__(self):\n        return 1\nf = C()",
        ["object of the class C"],
    ),
    "without source": (
        "space = {}\nexec('def f(): return 1', space)\nf = space['f']",
        ["source of f cannot be found", "exec"],
    ),
    "a magic": ("def f():\n    get_ipython().run_line_magic('pwd', '')", ["get_ipython", "subprocess"]),
    "its file": ("def f():\n    return __file__", ["__file__", "files="]),
    "nonlocal": (
        "def make():\n    n = 0\n    def f():\n        nonlocal n\n        n += 1\n        return n\n    return f\nf = make()",
        ["make.f", "nonlocal", "line 2"],
    ),
    "a class of type()": ("C = type('C', (), {})\ndef f():\n    return C()", ["class C", "cannot be found"]),
    "a class in a function": (
        "def make():\n    class C:\n        pass\n    return C\nC = make()\ndef f():\n    return C()",
        ["class make.<locals>.C", "inside a function"],
    ),
    "a base of another day": (
        "class B:\n    pass\nclass C(B):\n    pass\nclass B:\n    pass\ndef f():\n    return C()",
        ["class C", "its base B was defined again"],
    ),
    "a base that cannot be found": (
        "B = type('B', (), {})\nclass C(B):\n    pass\ndef f():\n    return C()",
        ["class B"],
    ),
    "a method that came later": (
        "class C:\n    pass\ndef m(self):\n    return 1\nC.m = m\ndef f():\n    return C().m()",
        ["class C", "has changed"],
    ),
    "two closures": (
        "def make(n):\n    def power(x):\n        return x ** n\n    return power\nsquare, cube = make(2), make(3)\ndef f():\n    return square(2) + cube(2)",
        ["'n'", "rename"],
    ),
    "a variable and a closure": (
        "n = 1\ndef make(n):\n    def power(x):\n        return x ** n\n    return power\nsquare = make(2)\ndef f():\n    return square(2) + n",
        ["'n'", "rename"],
    ),
    "singledispatch": (
        "import functools\n@functools.singledispatch\ndef g(x):\n    return x\ndef f():\n    return g(1)",
        ["singledispatch"],
    ),
    "a relative import": ("def f():\n    from . import x", ["relatively"]),
    "a name of ours": ("matterstack_main = 3\ndef f():\n    return matterstack_main", ["matterstack_main", "rename"]),
    "other defaults": ("def f(x=1):\n    return x\nf.__defaults__ = (2,)", ["default 1 of f has changed"]),
    "a variable not set": (
        "def make():\n    def f():\n        return late\n    return f\n    late = 1\nf = make()",
        ["'late'", "defined nowhere"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_written_down_is_refused_by_its_name(name: str, beside: Callable[[str, str], Any]) -> None:
    text, words = REFUSED[name]
    module = beside("refused", text)
    with pytest.raises(FunctionSourceError) as caught:
        capture(module.f)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


HELD = "import logging\nlog = logging.getLogger(__name__)\nSIZE = {size}\n\n\ndef norm(x):\n    return x * SIZE\n\n\ndef {name}(x):\n    return norm(x), log.name\n"


def test_helpers_of_one_name_in_two_modules_keep_both_their_meanings(
    beside: Callable[[str, str], Any], tmp_path: Path
) -> None:
    beside("relaxing", HELD.format(size=2, name="relaxed"))
    beside("fitting", HELD.format(size=3, name="fitted"))
    both = beside(
        "both",
        "from relaxing import relaxed\nfrom fitting import fitted\ndef f(x):\n    return relaxed(x), fitted(x)\n",
    )
    code = capture(both.f)
    assert sorted(code.modules) == ["modules/fitting.py"], "one of the two rides along"
    found = value_of(code, tmp_path / "task", 1)
    assert found == json.loads(json.dumps(codec.Encoder().encode(both.f(1))))


def test_a_function_whose_file_was_edited_is_refused_until_it_is_imported_again(
    beside: Callable[[str, str], Any], tmp_path: Path
) -> None:
    text = "STEP = 1\ndef g(x):\n    return x + 1\nclass C:\n    limit = 3\n    def m(self):\n        return 1\ndef f(x=2, *, y=STEP):\n    return g(x), C().m()\n"
    module = beside("edited", text)
    before = capture(module.f)
    file = Path(module.__file__)
    changes = [
        ("x + 1", "x + 2"),
        ("x + 1", "x + 1.0"),
        ("return 1", "return 7"),
        ("limit = 3", "limit = 4"),
        ("x=2", "x=3"),
        ("g(x), C", "g(-x), C"),
        ("def g", "def h"),
    ]
    for number, (old, new) in enumerate(changes):
        file.write_text(text.replace(old, new) + "#" * number)
        with pytest.raises(FunctionSourceError, match=r"changed since|can no longer be read"):
            capture(module.f)
    file.write_text("def f(:\n")
    with pytest.raises(FunctionSourceError, match="can no longer be read"):
        capture(module.f)
    # Elsewhere in the file, and in comments, it is the author's own affair.
    file.write_text("# one line more\n\n" + text + "\n\ndef unrelated():\n    pass\n")
    assert capture(module.f) == before
    file.write_text(text.replace("x + 1", "x + 2"))
    module = importlib.reload(module)
    assert "x + 2" in capture(module.f).text
    assert value_of(capture(module.f), tmp_path / "task", 1) == {"@": "tuple", "items": [3, 1]}


def test_what_rides_along_is_what_was_imported(beside: Callable[[str, str], Any]) -> None:
    beside("riding", "def g():\n    return 1\n")
    module = beside("user", "import riding\ndef f():\n    return riding.g()\n")
    assert sorted(capture(module.f).modules) == ["modules/riding.py"]
    Path(sys.modules["riding"].__file__ or "").write_text("def g():\n    return 2222\n")
    with pytest.raises(FunctionSourceError, match="source of g has changed"):
        capture(module.f)


def test_defaults_are_those_of_the_definition(beside: Callable[[str, str], Any], tmp_path: Path) -> None:
    text = "N = 2.5\ndef f(x, n=N, *, m=N):\n    return x, n, m, N\nN = 3.5\ndef make(k):\n    def g(x, y=[k], *, é=k, seen=[]):\n        return x, y, é, seen\n    return g\ng = make((1, 2))\n"
    module = beside("defaulting", text)
    for name in ("f", "g"):
        function = getattr(module, name)
        expected = json.loads(json.dumps(codec.Encoder().encode(function(1))))
        assert value_of(capture(function), tmp_path / name, 1) == expected


def test_classes_bear_the_names_they_have_here(beside: Callable[[str, str], Any], tmp_path: Path) -> None:
    text = "import dataclasses, enum\nclass Kind(enum.IntEnum):\n    A = 1\n@dataclasses.dataclass\nclass Cell:\n    kind: Kind\n    class Inner:\n        pass\ndef f(cell):\n    return cell\n"
    module = beside("battery", text)
    cell = module.Cell(module.Kind.A)
    assert "battery" not in capture(module.f).text
    code = capture(module.f, [module.Cell])
    assert code.classes == ("battery:Cell", "battery:Cell.Inner", "battery:Kind")
    assert value_of(code, tmp_path / "task", cell) == codec.Encoder().encode(cell)


def test_annotations_cost_nothing(beside: Callable[[str, str], Any], tmp_path: Path) -> None:
    text = "import threading, matterstack as ms\nfrom ase import Atoms\nlock = threading.Lock()\ndef f(x: Atoms, y: ms.Task = None, z: lock = None) -> 'nowhere':\n    a: absent = 1\n    return a\n"
    code = capture(beside("annotated", text).f)
    assert "from ase import Atoms" in code.text
    assert "import matterstack as" not in code.text
    assert "\nlock =" not in code.text
    assert value_of(code, tmp_path / "task", 1) == 1


def test_a_text_is_the_same_in_every_process(tmp_path: Path) -> None:
    program = "import odd_functions as o, hashlib, sys\nfrom matterstack.functions.source import capture\n"
    program += "names = ['constants', 'imports', 'helpers', 'classes', 'odd_syntax', 'twice_decorated']\n"
    program += "print(hashlib.sha256(''.join(repr(capture(getattr(o, n))) for n in names).encode()).hexdigest())\n"
    places = os.pathsep.join([str(Path(__file__).parent), str(Path(source.__file__).parents[2])])
    sums = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONPATH": places, "PYTHONHASHSEED": seed}
        sums.add(subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, check=True).stdout)
    assert len(sums) == 1


# -- cells --------------------------------------------------------------------------------------

SHOW = """
import sys
sys.path[:0] = {places!r}
from pathlib import Path
from test_source import value_of
import tempfile, matterstack.functions.function as ms
from matterstack.errors import FunctionSourceError
from matterstack.functions.source import capture
def show(function, *args, classes=()):
    try:
        code = capture(function, classes)
    except FunctionSourceError as error:
        print("refused:", error)
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(value_of(code, Path(folder) / "task", *args))
"""


def outputs_of(cells: list[str], folder: Path) -> list[str]:
    """Run cells in a kernel that starts in a folder, and return what each printed."""
    places = [str(Path(__file__).parent), str(Path(source.__file__).parents[2])]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in [SHOW.format(places=places), *cells]]
    )
    notebook.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=180, startup_timeout=180, resources=place).execute()
    return ["".join(output.get("text", "") for output in cell.outputs).strip() for cell in notebook.cells[1:]]


def test_functions_of_cells(tmp_path: Path) -> None:
    """Cells are run again with other helpers, names are used twice, and a module beside the notebook is edited."""
    (tmp_path / "beside.py").write_text(
        "STEP = 1\ndef step(x):\n    return x + STEP\nclass Box:\n    def size(self):\n        return 1\n"
    )
    cells = {
        "a helper": "def helper(x):\n    return x + 1",
        "a function": "@ms.task(retries=1)\ndef f(x):\n    # of a cell\n    return helper(x)",
        "run": "show(f, 1)",
        "the helper again": "def helper(x):\n    return x + 10",
        "run again": "show(f, 1)",
        "of one name": "def helper(x):\n    return -x\ndef g(x):\n    return helper(x) * 2",
        "run both": "show(f, 1); show(g, 1)",
        "an import beside": "import math\ndef root(x):\n    return math.sqrt(x)\nclass Root:\n    def of(self, x):\n        return math.sqrt(x)\ndef root_of(x):\n    return Root().of(x)",
        "run beside": "show(root, 4); show(root_of, 4)",
        "a class without methods": "from dataclasses import dataclass, field\nfrom enum import Enum\nclass Kind(Enum):\n    A = 1\n    B = 2\n@dataclass\nclass Cell:\n    kind: Kind = Kind.A\n    size: float = 1.5\ncell = Cell(Kind.B)",
        "a class and an await": "import asyncio\nawait asyncio.sleep(0)\nclass Sized(Cell):\n    def area(self):\n        return self.size ** 2\ndef area(cell):\n    return [Sized(size=3.0).area(), cell, Kind(1)]",
        "run with classes": "show(area, cell, classes=[Cell])",
        "the class again": "@dataclass\nclass Cell:\n    kind: Kind = Kind.A\n    size: float = 2.5",
        "run with a class of before": "show(area, cell, classes=[type(cell)])",
        "a magic": "def where():\n    here = !pwd\n    return here",
        "run the magic": "show(where)",
        "interactive": "def seen(x):\n    display(x)\n    return x",
        "autoreload": "%load_ext autoreload\n%autoreload 2\nimport beside\nfrom beside import step, Box\ndef h(x):\n    return step(x), Box().size()\nshow(h, 1)",
        "edit": "import os\nwas = Path('beside.py')\nwas.write_text(was.read_text().replace('STEP', 'LEAP').replace('LEAP = 1', 'LEAP = 100').replace('return 1', 'return 20'))\nos.utime(was, (2e9, 2e9))",
        "run edited": "show(h, 1)",
        "of main": "import __main__\ndef k():\n    return __main__.cell\nshow(k)",
    }
    found = dict(zip(cells, outputs_of(list(cells.values()), tmp_path), strict=True))
    assert found["run"] == "2"
    assert found["run again"] == "11"
    assert found["run both"] == "-1\n-2"
    assert found["run beside"] == "2.0\n2.0"
    assert "{'kind': {'@': 'enum', 'class': '__main__:Kind', 'name': 'B'}, 'size': 1.5}" in found["run with classes"]
    assert "its base Cell was defined again" in found["run with a class of before"]
    assert "get_ipython" in found["run the magic"]
    assert found["autoreload"].endswith("[2, 1]}")
    assert found["run edited"].endswith("[101, 20]}")
    assert "use the names in it directly" in found["of main"]
