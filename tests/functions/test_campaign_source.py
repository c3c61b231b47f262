"""A campaign of a cell is written down with its data, and made again where there is no notebook."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_source import beside, outputs_of, value_of

from matterstack.errors import FunctionSourceError
from matterstack.functions import source
from matterstack.functions.campaign import SingleWorkflow
from matterstack.functions.campaign_source import capture_campaign, rebuild_campaign

__all__ = ["beside"]

CELLS = [
    """
import json, numpy as np, logging
from dataclasses import asdict, dataclass
from enum import Enum
from typing import ClassVar
import matterstack
from matterstack import Campaign, Resources
from helping import norm
import riding
log = logging.getLogger(__name__)
GRID = np.arange(30_000.0)
HOSTS = {"a": 1, "b": 2}
class Kind(Enum):
    A = 1
@dataclass
class Cell:
    kind: Kind
    unit: ClassVar[str] = "eV"
CELL = Cell(Kind.A)
def shifted(by):
    def inner(x, *, more=[by]):
        return x + by, more
    return inner
plus = shifted(2.5)
def bare(function):
    def wrapper(*args):
        return ["bare", function(*args)]
    return wrapper
@bare
def hidden(x):
    return x
""",
    """
@ms.task(retries=2, resources=Resources(walltime_s=60))
def relax(x):
    # The comment stays.
    return [norm(x), plus(x), hidden(x), GRID.sum(), CELL, HOSTS, log.name, riding.deep(), Cell.unit]
relax_slurm = relax.with_options(operator="slurm")
plain = lambda: 0
def fit(x):
    return relax(x)
fit_long = ms.task(fit, resources=Resources(walltime_s=9, memory_gib=1.5))
""",
    """
class Base(Campaign):
    size = 3
    def initial_state(self):
        return {"size": self.size}
class Search(Base):
    def __init__(self, cells, grid):
        self.cells, self.grid, self.path = cells, grid, None
    def plan(self, state):
        return [relax, relax_slurm, fit, fit_long, super().initial_state(), self.cells[0].kind.name, float(self.grid.sum())]
""",
    """
from matterstack.functions.campaign_source import capture_campaign
campaign = Search([CELL], GRID)
code = capture_campaign(campaign)
stored = vars(code) | {"modules": {n: c.decode() for n, c in code.modules.items()}, "arrays": {n: c.hex() for n, c in code.arrays.items()}}
def told(campaign):
    planned = campaign.plan({})
    tasks = [capture(function) for function in planned[:4]]
    options = [sorted(f.options.items()) for f in planned[:4] if hasattr(f, "options")]
    return repr([[task.text, task.classes, task.packages, sorted(task.modules), sorted(task.arrays)] for task in tasks] + [options, planned[4:]])
Path("stored.json").write_text(json.dumps(stored))
Path("told.txt").write_text(told(campaign))
show(relax, 1.5)
""",
]

AGAIN = """
import json, sys
from pathlib import Path
from matterstack.functions.source import capture
from matterstack.functions.campaign_source import CampaignCode, capture_campaign, rebuild_campaign
stored = json.loads(Path(sys.argv[1]).read_text())
stored["modules"] = {n: c.encode() for n, c in stored["modules"].items()}
stored["arrays"] = {n: bytes.fromhex(c) for n, c in stored["arrays"].items()}
folder = Path("stored")
for name, content in stored["modules"].items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
code = CampaignCode(**stored)
campaign = rebuild_campaign(code, folder)
TOLD
Path("told.txt").write_text(told(campaign))
assert vars(campaign)["cells"][0].kind.name == "A" and campaign.path is None
assert capture_campaign(campaign).data == code.data
again = rebuild_campaign(capture_campaign(campaign), folder)
assert told(again) == told(campaign)
"""


def test_a_campaign_of_cells_plans_the_same_functions_without_the_notebook(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "helping.py").write_text("def norm(x):\n    return abs(x)\n")
    (here / "riding.py").write_text("def deep():\n    return 'deep'\n")
    printed = outputs_of(CELLS, here)
    assert "deep" in printed[-1]
    assert "refused" not in printed[-1]
    told = next(part for part in CELLS[-1].split("\n\n") if "def told" in part)
    told = told[told.index("def told") : told.index("Path(")]
    program = AGAIN.replace("TOLD", told)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(Path(source.__file__).parents[2])!r})\n" + program,
            str(here / "stored.json"),
        ],
        cwd=there,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + json.loads((here / "stored.json").read_text())["text"]
    assert (there / "told.txt").read_text() == (here / "told.txt").read_text()
    assert "walltime_s=60" in (there / "told.txt").read_text()
    assert "'operator', 'slurm'" in (there / "told.txt").read_text()


def test_campaigns_that_cannot_be_written_down_say_what_is_in_the_way(beside: Callable[[str, str], Any]) -> None:
    text = "import threading, matterstack as ms\nlock = threading.Lock()\nclass Held(ms.Campaign):\n    def __init__(self):\n        self.model = lock\n"
    text += "class Used(ms.Campaign):\n    def plan(self, state):\n        return lock\nclass Slots(ms.Campaign):\n    __slots__ = ('n',)\n"
    module = beside("campaigns", text)
    with pytest.raises(FunctionSourceError, match=r"Held\.model.*lock"):
        capture_campaign(module.Held())
    with pytest.raises(FunctionSourceError, match=r"Used uses 'lock' \(line 3: return lock\)"):
        capture_campaign(module.Used())
    with pytest.raises(FunctionSourceError, match="'n' in __slots__"):
        capture_campaign(module.Slots())
    with pytest.raises(FunctionSourceError, match="installed module"):
        capture_campaign(SingleWorkflow())


def test_a_module_that_is_another_here_is_not_mixed_in(beside: Callable[[str, str], Any], tmp_path: Path) -> None:
    beside("mixed", "def g():\n    return 1\n")
    module = beside(
        "campaigns",
        "import matterstack as ms, mixed\nclass C(ms.Campaign):\n    def plan(self, state):\n        return mixed.g()\n",
    )
    code = capture_campaign(module.C())
    assert rebuild_campaign(code, tmp_path).plan({}) == 1
    Path(sys.modules["mixed"].__file__ or "").write_text("def g():\n    return 2\n")
    with pytest.raises(FunctionSourceError, match="another mixed"):
        rebuild_campaign(code, tmp_path)


def test_registered_kinds_are_written_into_the_task(beside: Callable[[str, str], Any], tmp_path: Path) -> None:
    text = "from matterstack.functions import codec\nclass Model:\n    def __init__(self, n):\n        self.n = n\ndef to_plain(model):\n    return model.n\ndef from_plain(plain):\n    return Model(plain)\ncodec.register(Model, to_plain, from_plain)\nKEPT = Model(3)\ndef f(model):\n    return Model(model.n + KEPT.n)\n"
    module = beside("registering", text)
    code = source.capture(module.f, [module.Model])
    assert "matterstack_main.register(Model, to_plain, from_plain)" in code.text
    assert value_of(code, tmp_path / "task", module.Model(4))["value"] == 7
