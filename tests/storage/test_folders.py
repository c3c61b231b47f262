"""Folders that others may have filled, however deep: walked and removed without following a link, at little cost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from matterstack import files

DEPTH = 400


def dig(top: Path, depth: int) -> None:
    """Make folders within each other, each with a file and a second folder beside the next one."""
    folder = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
        for name in ("beside", "down"):
            os.mkdir(name, dir_fd=folder)
        inner = os.open("down", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)


def test_what_is_deep_is_walked_and_removed_with_few_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "top").mkdir()
    dig(tmp_path / "top", DEPTH)
    opened: list[int] = []
    real = os.open

    def counted(*given: Any, **named: Any) -> int:
        opened.append(real(*given, **named))
        return opened[-1]

    monkeypatch.setattr(files.system, "open", counted)
    held = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    found = [path for path, _ in files.walk_inside(tmp_path, "top")]
    assert len(found) == len(set(found)) == 3 * DEPTH
    assert "/".join(["down"] * (DEPTH - 1) + ["file"]) in found
    assert max(opened) < held + 100  # descriptors are numbered from the lowest free one on
    assert len(opened) < 20 * DEPTH
    files.remove_inside(tmp_path, "top")
    assert list(tmp_path.iterdir()) == []
    assert len(opened) < 60 * DEPTH
    if held:
        assert len(os.listdir("/proc/self/fd")) <= held  # others may have gone with their owners


def test_a_folder_that_became_a_link_meanwhile_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside/b").mkdir(parents=True)
    (tmp_path / "outside/b/precious").write_text("mine")
    for name in ("a/b", "a/c"):
        (tmp_path / "top" / name).mkdir(parents=True)
    walk = files.walk_inside(tmp_path, "top")
    assert next(walk)[0] == "a"
    (tmp_path / "top/a").rename(tmp_path / "moved")
    (tmp_path / "top/a").symlink_to(tmp_path / "outside")
    with pytest.raises(files.UnsafeFileError, match="top/a is a link"):
        list(walk)
