"""The head of a cockpit: where the run stands, what needs somebody, and the buttons, as one widget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import traitlets

from matterstack.notebook.assets import CSS, script
from matterstack.notebook.statuses import LOOKS

#: The buttons in their order, each with its icon, and what it does.
BUTTONS = (
    ("Step", "step", "one tick"),
    ("Run", "play", "make ticks until it ends; press again to stop that"),
    ("Pause", "pause", "submit nothing new"),
    ("Resume", "play", "submit again"),
    ("Cancel", "stop", "stop everything: press twice"),
    ("Retry", "retry", "the selected task, or every failed one"),
)


class Head(anywidget.AnyWidget):
    """The head of a cockpit.

    Parameters
    ----------
    press : callable
        Called with the name of a button that is pressed, if that is on.
    go : callable
        Called with the name of a task, and that of a tab, where what needs somebody is clicked; one of them is empty.
    here : callable
        Called for as long as somebody may see it.
    """

    _esm = script("cockpit.js")
    _css = CSS
    looks: Any = traitlets.List().tag(sync=True)
    #: See `standing_data`.
    standing: Any = traitlets.Dict().tag(sync=True)
    #: See `needs_of`.
    needs: Any = traitlets.List().tag(sync=True)
    #: Names, icons and words of the buttons, and whether each is on, and pressed.
    buttons: Any = traitlets.List().tag(sync=True)
    #: What the run waits for, and what became of the last button.
    state = traitlets.Unicode("").tag(sync=True)
    said = traitlets.Unicode("").tag(sync=True)

    def __init__(self, press: Callable[[str], None], go: Callable[[str, str], None], here: Callable[[], None]) -> None:
        self._press, self._go, self._here = press, go, here
        super().__init__(looks=[look._asdict() for look in LOOKS])
        self.switch({}, running=False)
        self.on_msg(self._heard)

    def switch(self, on: Mapping[str, bool], *, running: bool) -> None:
        """Turn buttons on and off; the one that runs stays pressed while it does."""
        self.buttons = [
            {
                "name": name,
                "symbol": icon,
                "tip": tip,
                "on": on.get(name, False),
                "pressed": running if name == "Run" else None,
            }
            for name, icon, tip in BUTTONS
        ]

    @property
    def on(self) -> frozenset[str]:
        """Which buttons are on."""
        return frozenset(button["name"] for button in self.buttons if button["on"])

    def _heard(self, _: object, message: Any, __: object) -> None:
        if not isinstance(message, dict):
            return
        if message.get("here"):
            self._here()
        if isinstance(name := message.get("press"), str) and name in self.on:
            self._press(name)
        if isinstance(place := message.get("go"), dict):
            task, tab = (place.get(key) for key in ("task", "tab"))
            self._go(task if isinstance(task, str) else "", tab if isinstance(tab, str) else "")
