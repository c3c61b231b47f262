"""Markdown as HTML that does nothing: text of others, with its headings, lists, tables and code."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from matterstack.core.text import neutral

if TYPE_CHECKING:
    from mistune import Markdown

#: More is shown as plain text: a reader of Markdown may take long over what is made to keep it busy.
_MOST_CHARACTERS = 20_000
_LINKS = ("http://", "https://", "mailto:")
_reader: Markdown | None = None


def markdown_html(text: str) -> str:
    r"""Return Markdown as HTML: no HTML of its own, no script, no picture, and links to pages and mail alone.

    Where mistune is not installed, which JupyterLab brings, it is the text as it is.

    Examples
    --------
    >>> markdown_html("**Which** <b>one</b>? [this](javascript:alert)")
    '<p><strong>Which</strong> &lt;b&gt;one&lt;/b&gt;? this (javascript:alert)</p>\n'
    """
    text = neutral(text)
    if len(text) <= _MOST_CHARACTERS and (reader := _load()) is not None:
        return str(reader(text))
    return f"<pre class='ms-plain'>{escape(text)}</pre>"


def _load() -> Markdown | None:
    """Return the reader of Markdown, made once; None where there is no mistune."""
    global _reader
    if _reader is None:
        try:
            import mistune
        except ImportError:
            return None

        class Harmless(mistune.HTMLRenderer):
            def link(self, text: str, url: str, title: str | None = None) -> str:
                if not url.lower().startswith(_LINKS):
                    return f"{text} ({escape(url)})"
                about = f" title='{escape(title)}'" if title else ""
                return f"<a href='{escape(url)}'{about} target='_blank' rel='noopener noreferrer'>{text}</a>"

            def image(self, text: str, url: str, title: str | None = None) -> str:
                return f"[picture: {text or escape(url)}]"

            def inline_html(self, html: str) -> str:
                return escape(html)

            def block_html(self, html: str) -> str:
                return f"<p>{escape(html)}</p>\n"

            def block_code(self, code: str, info: str | None = None) -> str:
                return f"<pre><code>{escape(code)}</code></pre>\n"

        _reader = mistune.create_markdown(renderer=Harmless(escape=True), plugins=["table", "strikethrough"])
    return _reader
