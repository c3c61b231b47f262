"""What computers add to a folder is known; what programs of the field write is not taken for it."""

from __future__ import annotations

import pytest

from matterstack.core.litter import is_litter

LITTER = [
    ".DS_Store", "._OUTCAR", "._.DS_Store", "__MACOSX/0.a.1/._output", "Icon\r", "Thumbs.db", "thumbs.db",
    "Desktop.ini", "OUTCAR:Zone.Identifier", "response (Ada's conflicted copy 2024-05-01).json",
    "response (conflicted copy 2024-05-01 101010).json", "result.sync-conflict-20240501-101010-ABCDEFG.json",
    "result_conflict-20240501-101010.json", ".response.json.swp", ".response.json.swo", "response.json~",
    ".#response.json", "#response.json#", "~$response.xlsx", ".~lock.response.csv#", ".nfs000000000123abcd00000001",
    "@eaDir/x/y", "$RECYCLE.BIN", "deep/er/.Trashes/x",
]  # fmt: skip
RESULTS = [
    "OUTCAR", "W0001.tmp", "WFULL0001.tmp", "#md.log.1#", "#topol.top.12#", "Icon", "response.json",
    "response (1).json", ".hidden", ".OUTCAR.x7Kd", "Co.dat", "Li(NiMnCo)O2.cif", "conflict.txt", "~", "a.swp",
    "CuAu3 (111).cif", "desktop.ini.txt", "icon.png", "sync_1.dat", "prefix.save/charge-density.dat", "core.1234",
    "-_.txt",
]  # fmt: skip


@pytest.mark.parametrize("name", LITTER)
def test_what_computers_add_is_litter(name: str) -> None:
    assert is_litter(name)


@pytest.mark.parametrize("name", RESULTS)
def test_what_programs_of_the_field_write_is_not(name: str) -> None:
    assert not is_litter(name)
