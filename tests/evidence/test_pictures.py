"""Pictures that tasks left stand in the report where they are what their names say; of the others it says why not."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from html import unescape
from pathlib import Path

import pytest

import matterstack as ms
from matterstack.evidence import pictures

EVIL = "onerror='alert(1)' \"><script>alert(2)</script>.png"


def png(width: int = 4, height: int = 3) -> bytes:
    """Return a red rectangle."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = (b"\0" + b"\xc0\x20\x20" * width) * height
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


SVG = (
    b"<?xml version='1.0'?>"
    b"<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd'>"
    b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><script>alert(3)</script><rect width='9'/></svg>"
)
LAUGHS = b"<!DOCTYPE svg [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]><svg xmlns='http://www.w3.org/2000/svg'>&b;</svg>"

#: By name what a task leaves, and whether it is shown.
LEFT = {
    "dos.png": (png(), True),
    "sub/BANDS.PNG": (png(5), True),
    "drawn.svg": (SVG, True),
    EVIL: (png(6), True),
    "photo.jpg": (b"\xff\xd8\xff\xe0" + b"\0" * 20, True),
    "moves.gif": (b"GIF89a" + b"\0" * 20, True),
    "new.webp": (b"RIFF\x04\0\0\0WEBPVP8 ", True),
    "page.png": (b"<html><script>alert(4)</script></html>", False),
    "empty.png": (b"", False),
    "other.jpg": (png(), False),
    "laughs.svg": (LAUGHS, False),
    "page.svg": (b"<html xmlns='http://www.w3.org/1999/xhtml'/>", False),
    "bare.svg": (b"<svg><script/></svg>", False),
    "torn.svg": (SVG[:-9], False),
    "large.png": (png() + b"\0" * pictures.MOST_BYTES, False),
    "table.csv": (b"a,b\n", False),
}


@pytest.fixture(scope="module")
def drew(tmp_path_factory: pytest.TempPathFactory) -> ms.Run:
    """Return a run of which one task left all of these, and declared them."""
    base = tmp_path_factory.mktemp("drew")
    made = base / "made"
    for name, (content, _) in LEFT.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(content)
    flow = ms.Workflow([ms.Task("draw", f"cp -r {made}/. .", outputs=list(LEFT))])
    flow.add_task(ms.Task("failed", f"cp {made}/dos.png failed.png; exit 1", outputs=["failed.png"]))
    flow.add_task(ms.Task("silent", f"cp {made}/dos.png nobody-asked.png"))
    run = ms.initialize_run("pictures", flow, base_path=base)
    run.wait(timeout_s=180)
    return run


def shown(home: Path) -> dict[str, bytes]:
    """Return the pictures on the page by their names."""
    page = (home / "report.html").read_text()
    found = re.findall(r"<figure><img alt='([^']*)' src='data:image/[a-z+]+;base64,([^']*)'>", page)
    return {unescape(name): base64.b64decode(content) for name, content in found}


@pytest.mark.parametrize("files", ["declared", "all", "none"])
def test_pictures_are_shown_that_are_what_they_are_called(files: str, drew: ms.Run, tmp_path: Path) -> None:
    home = drew.export(tmp_path / "e", files=files)
    wanted = {name: content for name, (content, is_shown) in LEFT.items() if is_shown}
    assert shown(home) == ({} if files == "none" else wanted)
    page = (home / "report.html").read_text()
    assert "<script" not in page
    assert EVIL not in page
    text = (home / "report.md").read_text()
    for name, (_, is_shown) in LEFT.items():
        if name.endswith((".png", ".jpg", ".svg")) and files != "none":
            line = f"0.draw.1: {name} |"
            assert (line in text) is not is_shown
    assert files == "none" or "| it was" not in text


def test_a_picture_that_was_changed_or_removed_is_not_shown(drew: ms.Run, tmp_path: Path) -> None:
    home = drew.export(tmp_path / "e")
    ms.trust(home)
    run = ms.open_run(home)
    run.file("draw", "dos.png").write_bytes(png(7))
    run.file("draw", "sub/BANDS.PNG").unlink()
    again = run.export(tmp_path / "again")
    assert not {"dos.png", "sub/BANDS.PNG"} & shown(again).keys()
    text = (again / "report.md").read_text()
    assert "| 0.draw.1: dos.png | it was changed after it was recorded |" in text
    assert "| 0.draw.1: sub/BANDS.PNG | it is not there any more |" in text


def test_so_many_are_shown_and_the_others_are_named(
    drew: ms.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MOST_PICTURES", 2)
    home = drew.export(tmp_path / "e")
    assert len(shown(home)) == 2
    assert "2 are shown at most" in (home / "report.md").read_text()
    monkeypatch.setattr(pictures, "MOST_PICTURES", 24)
    monkeypatch.setattr(pictures, "MOST_BYTES_IN_ALL", 2 * len(png()))
    assert sum(map(len, shown(drew.export(tmp_path / "f")).values())) <= 2 * len(png())
