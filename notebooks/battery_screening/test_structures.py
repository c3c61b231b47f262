"""The cells have the composition, the lithium and the place in the row that they say."""

import pytest

from battery_screening.structures import SITES, layered, metal_fractions


@pytest.mark.parametrize("metals", ["Co", "Ni0.5Co0.5", "Ni0.25Mn0.75"])
@pytest.mark.parametrize("lithium", [1.0, 0.5, 0.0])
def test_a_cell_has_the_metals_and_the_lithium_it_says(metals: str, lithium: float) -> None:
    amounts = layered(metals, lithium).composition.get_el_amt_dict()
    assert amounts.pop("O") == 2 * SITES
    assert amounts.pop("Li", 0) == lithium * SITES
    assert {metal: amount / SITES for metal, amount in amounts.items()} == metal_fractions(metals)


def test_lithium_at_one_half_stands_in_rows() -> None:
    cell = layered("Co", 0.5)
    rows = {round(site.frac_coords[0] * 2) % 2 for site in cell if site.specie.symbol == "Li"}
    assert len(rows) == 1


def test_shares_that_the_cell_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="quarters"):
        layered("Ni0.7Co0.3")


def test_a_cell_is_the_same_each_time_and_no_symmetry_forbids_it_to_distort() -> None:
    cell = layered("Mn")
    assert cell.as_dict() == layered("Mn").as_dict()
    manganese = next(site for site in cell if site.specie.symbol == "Mn")
    lengths_A = [round(near.nn_distance, 4) for near in cell.get_neighbors(manganese, 2.3)]
    assert len(lengths_A) == len(set(lengths_A)) == 6
