"""What is got from energies is what it is called; the campaign asks, shows and refines as it says."""

import pandas as pd
import pytest

import matterstack as ms
from battery_screening.campaign import BatteryScreening
from battery_screening.functions import mixing, relax, voltages
from battery_screening.published import beside_experiment
from battery_screening.structures import layered, lithium_metal

#: CHGNet's own, once a process.
pytestmark = pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning")


def relaxed(energy_eV: float, volume_A3: float = 30.0) -> dict[str, float]:
    return {
        "energy_eV_per_formula_unit": energy_eV,
        "volume_A3_per_formula_unit": volume_A3,
        "moment_muB_per_metal": 0.0,
    }


def test_voltages_are_energies_against_lithium_metal() -> None:
    found = voltages("Co", relaxed(-2.0), relaxed(-26.0, 32.0), relaxed(-20.0, 28.0), half=relaxed(-23.25))
    assert found["voltage_V"] == pytest.approx(4.0)
    assert found["voltage_first_half_V"] == pytest.approx(3.5)
    assert found["voltage_second_half_V"] == pytest.approx(4.5)
    assert found["half_formation_meV_per_formula_unit"] == pytest.approx(-250)
    assert found["volume_change_percent"] == pytest.approx(-12.5)


def test_mixing_is_told_by_share_and_only_where_both_metals_are_known() -> None:
    energies_eV = {"Ni": -20.0, "Co": -24.0, "Ni0.75Co0.25": -21.1, "Ni0.5Mn0.5": -30.0}
    found = {metals: {"lithiated_eV_per_formula_unit": energy} for metals, energy in energies_eV.items()}
    assert mixing(found, "lithiated") == {"Ni0.75Co0.25": pytest.approx(-100)}


def test_a_picked_mixture_is_refined_with_its_metals_and_with_half_of_the_lithium() -> None:
    campaign = BatteryScreening(["Co", "Ni", "Mn", "Ni0.5Co0.5"])
    planned = campaign.plan({"picked": ["Ni0.5Co0.5"], "approved": None})
    assert planned is not None
    halves = {task.task_id for task in planned if task.task_id.startswith("half-")}
    assert halves == {"half-Co", "half-Ni", "half-Ni0.5Co0.5"}


def test_the_person_is_shown_a_chart_a_table_and_each_structure() -> None:
    first = ms.preview(
        BatteryScreening(["Co", "Ni"]), operators={"local": ms.LocalOperator(), "human": ms.HumanOperator()}
    )
    assert len(first.errors) == 0
    pick = BatteryScreening(["Co", "Ni"]).plan({"picked": None, "approved": None})["pick"]
    assert pick.shown == (
        ("chart", "voltages.png"),
        ("table", "cathodes.csv"),
        ("lithiated-Co", "layers.xyz"),
        ("lithiated-Ni", "layers.xyz"),
    )


def test_a_value_that_was_not_read_is_not_compared() -> None:
    beside = beside_experiment(pd.DataFrame({"voltage_V": {"Ni": 4.5, "Co": 4.1}}))
    assert list(beside["within_0.3_V"]) == ["no", ""]


def test_a_crystal_that_does_not_come_to_rest_is_an_error_by_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="Co4 O8 is not relaxed after 2 steps"):
        relax(layered("Co", 0.0), 0.001, max_steps=2)


def test_lithium_metal_is_told_by_atom(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = relax(lithium_metal(), 0.1)
    assert found["energy_eV_per_formula_unit"] == pytest.approx(-1.88, abs=0.01)  # lithium of GGA, as CHGNet learned it
    assert found["volume_A3_per_formula_unit"] == pytest.approx(20.3, abs=0.5)
