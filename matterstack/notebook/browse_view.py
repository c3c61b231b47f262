"""An attempt to browse, as a widget: its logs, its files, what it was made from, and what is made from it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import traitlets

from matterstack.core.text import format_time, neutral
from matterstack.errors import MatterstackError
from matterstack.files import read_tail
from matterstack.notebook.assets import PANEL, script
from matterstack.notebook.board import News
from matterstack.notebook.desk import Desk
from matterstack.notebook.file_keys import path_of
from matterstack.notebook.statuses import look_of_attempt
from matterstack.notebook.views import View

if TYPE_CHECKING:
    from matterstack.run import Run

_MOST_STILL = 200
_TAIL_BYTES = 4000


class BrowseView(View):
    """One attempt, followed while it runs; another one is a click away.

    Parameters
    ----------
    run : Run
    task_id : str
    iteration, attempt : int, optional
        As in `Run.browse`.

    Raises
    ------
    UnknownTaskError
        There is no such task, or it has no such attempt.
    """

    _esm = script(*PANEL, "browse_view.js")
    #: Which attempt is shown, and what of it: a page that is loaded again shows the same.
    shown: Any = traitlets.Dict().tag(sync=True)
    #: The answers to what a page asks first, where the kernel is busy by then.
    begun: Any = traitlets.Dict().tag(sync=True)
    page_may_change = View.page_may_change | {"shown"}

    def __init__(self, run: Run, task_id: str, iteration: int | None = None, attempt: int | None = None) -> None:
        self.run = run
        self.desk = Desk(run, self.send)
        row = self.desk.browsing.place({"task": task_id, "iteration": iteration, "attempt": attempt}).row
        self._asked = {"task": row.task_id, "iteration": row.iteration, "attempt": row.attempt}
        begun, self._log = self.desk.begin(self._asked)
        super().__init__(run, shown=self._asked, begun=begun)

    def _heard(self, view: object, message: Any, buffers: object) -> None:
        super()._heard(view, message, buffers)
        if not isinstance(message, dict):
            return
        self.desk.take(message)
        if isinstance(asked := message.get("browse"), dict) and asked.get("what") == "grow":
            self._log = None  # a page looks itself from now on

    def take(self, news: News) -> None:
        """Do nothing: the attempt is no row of the board, and its pages ask for it."""

    def glance(self, news: News) -> None:
        """Tell pages what has changed, and what logs that they look at have grown by."""
        self.desk.look(news)
        name = self.begun["attempt"]["name"]
        if any(card.name == name for card in news.changed) and "error" not in (about := self._about()):
            self.begun = {**self.begun, "attempt": about}  # a page that is drawn later missed what was told
        if self._log is not None and (page := self._log.look()) is not None:
            self._log.at = 0  # a page may have missed all that was shown before: it gets as much as it can
            self.begun = {**self.begun, "page": {**page._asdict(), "path": self.begun["page"]["path"]}}

    def _about(self) -> dict[str, Any]:
        try:
            return self.desk.browsing.answer({"what": "attempt", **self._asked}).said
        except (MatterstackError, OSError) as error:
            return {"name": str(self._asked["task"]), "error": str(error)}

    def twin_text(self) -> str:
        """Return which attempt it is, and the ends of its logs."""
        about = self._about()
        if "error" in about:
            return neutral(f"{about['name']}: {about['error']}")
        lines = [f"{about['name']}.{about['attempt']} of {about['run']}: {about['status']}, in {about['directory']}"]
        for name, text in self._tails(about):
            lines += [f"- {name}", *(f"    {line}" for line in text.splitlines())]
        return neutral("\n".join(lines))

    def twin_html(self) -> str:
        """Return the ends of its logs, its files, and what it was made from."""
        about = self._about()
        if "error" in about:
            return f"<p>{_text(about['name'])}: {_text(about['error'])}</p>"
        look = look_of_attempt(about["status"])
        began = about["times"][1] or about["times"][0]
        parts = [
            f"<h4 style='margin:4px 0'>{_text(about['name'])} <small style='border-left:4px solid {look.colour};"
            f"padding-left:4px'>{_text(about['status'])}</small></h4>"
            f"<p style='margin:4px 0'>attempt {about['attempt']} of {_text(about['run'])}, since {format_time(began)}; "
            f"in {_text(about['directory'])}</p>"
        ]
        style = "margin:4px 0;max-height:16em;overflow:auto;white-space:pre-wrap"
        parts += [
            f"<div>{_text(name)}</div><pre style='{style}'>{_text(text)}</pre>" for name, text in self._tails(about)
        ]
        parts.append(self._files_html())
        facts = self.run.made_from(about["task"], iteration=about["iteration"], attempt=about["attempt"]).facts
        parts.append(_table("made from", [(what, said) for what, said in facts]))
        return "".join(parts)

    def _files_html(self) -> str:
        try:
            said = self.desk.browsing.answer({"what": "folder", "path": "", **self._asked}).said
        except (MatterstackError, OSError):
            return ""
        entries = said["entries"][:_MOST_STILL]
        more = said["more"] + len(said["entries"]) - len(entries)
        rows = [(one["name"], f"{one['size']:,} bytes" if one["kind"] != "folder" else "folder") for one in entries]
        return _table("files", rows + ([(f"and {more} more", "")] if more else []))

    def _tails(self, about: dict[str, Any]) -> list[tuple[str, str]]:
        place = self.desk.browsing.place(self._asked)
        logs = [(log["name"], place.inside(path_of(log["key"]))) for log in about["logs"] if log["size"]]
        return [(name, read_tail(place.root, path, _TAIL_BYTES).strip()) for name, path in logs]


def _text(text: str) -> str:
    return escape(neutral(text))


def _table(name: str, rows: list[tuple[str, str]]) -> str:
    if not rows:
        return ""
    cell = "<td style='text-align:left;vertical-align:top;overflow-wrap:anywhere'>"
    lines = "".join(f"<tr>{cell}{_text(one)}</td>{cell}{_text(other)}</td></tr>" for one, other in rows[:_MOST_STILL])
    return f"<div>{_text(name)}</div><table>{lines}</table>"
