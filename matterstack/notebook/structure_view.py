"""A structure or trajectory as a widget that is turned, with a still picture for pages without a kernel."""

from __future__ import annotations

import threading
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from matterstack.core.text import neutral
from matterstack.errors import MatterstackError, StructureError
from matterstack.notebook.assets import CSS, script
from matterstack.notebook.structure_picture import picture_html
from matterstack.notebook.structures import (
    AT_ONCE,
    MOST_ATOMS,
    Frames,
    frames_of,
    frames_of_file,
    structure_format,
)
from matterstack.notebook.views import with_twin

#: A file that is read by then is there at once, also on a page that is saved; a larger one comes when it is read.
_SOON_S = 3.0
_PICTURE = 320


class StructureView(anywidget.AnyWidget):
    """A structure or trajectory.

    Parameters
    ----------
    title : str
        What is shown, in words.
    """

    _esm = script("structure.js", "structure_view.js")
    _css = CSS
    data = traitlets.Dict().tag(sync=True)
    #: What is to be said of it: that it is being read, or why it was not.
    note = traitlets.Unicode("").tag(sync=True)

    def __init__(self, title: str) -> None:
        self.title = title
        self.frames: Frames | None = None
        self._most = AT_ONCE
        super().__init__()
        self.on_msg(self._heard)

    def show(self, frames: Frames) -> None:
        """Show these frames."""
        self.frames = frames
        self.data = frames.as_data(self._most)

    def _heard(self, _: object, message: Any, __: object) -> None:
        if isinstance(message, dict) and message.get("all") is True and self.frames is not None:
            self._most = MOST_ATOMS
            self.show(self.frames)

    def twin_html(self) -> str:
        """Return the first frame as a picture."""
        if self.frames is None:
            return f"<p>{escape(self.twin_text())}</p>"
        return f"{picture_html(self.frames, _PICTURE)}<p>{escape(self.twin_text())}</p>"

    def twin_text(self) -> str:
        """Return what is shown as a line."""
        if self.frames is None:
            return f"{self.title}: {self.note or 'nothing'}"
        total = self.frames.total
        return f"{self.title}: {self.frames.atoms} atoms" + (f", {total} frames" if total > 1 else "")

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return with_twin(super()._repr_mimebundle_(**options), self.twin_html(), self.twin_text())


def show_structure(what: Any) -> StructureView:
    """Show a structure or trajectory, which can be turned.

    Parameters
    ----------
    what : ase.Atoms, pymatgen Structure or Molecule, list of them, path, or value
        A path is that of an XYZ file, a CIF, a POSCAR, CONTCAR or XDATCAR, an ASE trajectory, or of JSON that
        holds a structure. A value is what a task gave, as JSON.

    Returns
    -------
    StructureView
        A widget. A large file is read beside the kernel, and shown when it is read.

    Raises
    ------
    StructureError
        It is no structure that can be shown.
    FileNotFoundError
        There is no such file.
    MissingLibraryError
        There is no ASE.

    Examples
    --------
    >>> from ase.build import bulk
    >>> show_structure(bulk("NaCl", "rocksalt", a=5.64, cubic=True)).twin_text()
    'Na4Cl4: 8 atoms'
    """
    if isinstance(what, str | Path):
        return _of_file(Path(what))
    frames = frames_of(what)
    view = StructureView(frames.formula)
    view.show(frames)
    return view


def _of_file(path: Path) -> StructureView:
    path = path.resolve(strict=True)
    if structure_format(path.name) is None:
        raise StructureError(f"{path.name} is no file of a structure: its name tells nothing that can be read")
    view = StructureView(neutral(path.name))
    view.note = f"{view.title} is being read …"
    trouble: list[MatterstackError | OSError] = []

    def read() -> None:
        try:
            view.show(frames_of_file(path.parent, path.name))
            view.note = ""
        except (MatterstackError, OSError) as error:
            trouble.append(error)
            view.note = neutral(str(error))

    reader = threading.Thread(target=read, daemon=True, name="matterstack-structure")
    reader.start()
    reader.join(_SOON_S)
    if trouble:
        raise trouble[0]
    return view
