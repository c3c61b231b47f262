"""Handlers mend the inputs of next attempts: by name, with every operator that runs commands; custodian's too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import matterstack as ms
from matterstack.errors import InvalidConfigError


class MoreSteps:
    """Takes one step more after each attempt that did not converge."""

    def __init__(self) -> None:
        self.count = 0

    def check(self, directory: Path) -> bool:
        return "not converged" in (directory / "log").read_text()

    def correct(self, directory: Path) -> Any:
        self.count += 1
        assert (directory / "log").exists(), "what the failed attempt left is there"
        (directory / "log").write_text("altered")
        (directory / "steps").write_text(str(int((directory / "steps").read_text()) + self.count))
        (directory / "old").unlink(missing_ok=True)
        return {"count": self.count}


NAME = f"{__name__}:MoreSteps"
FILES = {"steps": b"1", "old": b"x", "kept": b"y"}
CONVERGE = "echo not converged > log; [ $(cat steps) -ge 4 ]"


def test_a_handler_by_its_name_outlives_the_process(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("a", CONVERGE, files=FILES, retries=3)])
    operators = {"local": ms.LocalOperator(handlers=[NAME])}
    path = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators).path
    run = ms.open_run(path)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    homes = [run.task_directory("a", attempt=number) for number in (1, 2, 3)]
    assert [(home / "steps").read_text() for home in homes] == ["1", "2", "4"]
    assert [(home / "old").exists() for home in homes] == [True, False, False]
    assert (homes[0] / "log").read_text() == "not converged\n"
    said = json.loads((homes[2] / "corrections.json").read_text())
    assert said == [{"attempt": n, "handler": "MoreSteps", "done": {"count": n}} for n in (1, 2)]
    assert not (homes[1] / "kept").is_symlink()


def test_a_kit_is_mended_from_what_came_home(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("a", CONVERGE, files=FILES, retries=1, operator="far")])
    operators = {"far": ms.ManualHPCOperator(handlers=[NAME])}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    run.step()
    first = run.path / "operators/far/0.a.1"
    token = json.loads((first / "MANIFEST.json").read_text())["token"]
    (first / "output").mkdir()
    (first / "output/log").write_text("not converged\n")
    (first / "status.json").write_text(json.dumps({"token": token, "status": "FAILED", "exit_code": 1}))
    for _ in range(5):
        run.step()
    second = run.path / "operators/far/0.a.2/inputs"
    assert (second / "steps").read_text() == "2"
    assert sorted(path.name for path in second.iterdir()) == ["corrections.json", "kept", "steps"]


def test_a_handler_that_is_not_there_fails_the_attempt_and_names_it(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("a", "false", retries=1)])
    operators = {"local": ms.LocalOperator(handlers=["no_such.module:Handler"])}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    assert "the handler no_such.module:Handler of 'local' cannot be made here" in str(run.tasks["reason"].iloc[0])


@pytest.mark.parametrize("wrong", [["no name"], ["module"], "module:Class", [object()]])
def test_what_is_no_handler_is_refused(wrong: Any) -> None:
    for kind in (ms.LocalOperator, ms.SlurmOperator, ms.ManualHPCOperator):
        with pytest.raises(InvalidConfigError):
            kind(handlers=wrong)


STRUCTURE = "Cu\n1.0\n3.6 0 0\n0 3.6 0\n0 0 3.6\nCu\n1\ndirect\n{} 0 0\n"
INPUTS = {
    "INCAR": b"ALGO = Fast\nKPAR = 4\n",
    "KPOINTS": b"mesh\n0\nMonkhorst\n2 2 2\n0 0 0\n",
    "POSCAR": STRUCTURE.format("0.0").encode(),
}
OSZICAR = (
    "       N       E                     dE             d eps       ncg     rms          rms(c)\n"
    "DAV:   1     0.500000000000E+02    0.50000E+02   -0.10000E+03   100   0.100E+02\n"
    "   1 F= 0.50000000E+02 E0= 0.50000000E+02  d E =0.500000E+02\n"
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "leaves", "edits", "mended"),
    [
        ("StdErrHandler", {"std_err.txt": "Allocation would exceed memory limit"}, "INCAR", "KPAR = 2"),
        ("PositiveEnergyErrorHandler", {"OSZICAR": OSZICAR}, "INCAR", "ALGO = Normal"),
        (
            "VaspErrorHandler",
            {"vasp.out": "ERROR FEXCF: supplied exchange-correlation table", "CONTCAR": STRUCTURE.format("0.01")},
            "POSCAR",
            "0.01",
        ),
    ],
)
def test_handlers_of_custodian_work_as_they_are(
    tmp_path: Path, name: str, leaves: dict[str, str], edits: str, mended: str
) -> None:
    pytest.importorskip("custodian", reason="not required: custodian, with pymatgen, is not installed")
    write = "; ".join(f"printf %s '{text}' > {path}" for path, text in leaves.items())
    command = f"[ $MATTERSTACK_ATTEMPT = 2 ] || {{ {write}; exit 1; }}"
    operators = {"local": ms.LocalOperator(handlers=[f"custodian.vasp.handlers:{name}"])}
    flow = ms.Workflow([ms.Task("vasp", command, files=INPUTS, retries=1)])
    run = ms.open_run(ms.initialize_run("w", flow, base_path=tmp_path, operators=operators).path)
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED, run.explain()
    second = run.task_directory("vasp", attempt=2)
    assert mended in (second / edits).read_text()
    for other in INPUTS.keys() - {edits}:
        assert (second / other).read_bytes() == INPUTS[other]
    assert not list(second.glob("error.*"))
