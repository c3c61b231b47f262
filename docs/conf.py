"""The settings of the site: `python -m sphinx -W --keep-going -n -b html docs BUILD`."""

from __future__ import annotations

import json
import os
import pydoc
import re
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode, math_block
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.nodes import make_refnode

import matterstack

DOCS = Path(__file__).parent
ROOT = DOCS.parent

project = "MatterStack"
author = "the MatterStack developers"
copyright = author  # noqa: A001  Sphinx's own name
version = release = matterstack.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
exclude_patterns = ["**/.ipynb_checkpoints", "build"]

# Pages and notebooks. A notebook is shown as it is saved; the tests run it.
nb_execution_mode = "off"
nb_number_source_lines = False
nb_render_markdown_format = "myst"  # commonmark has no tables
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

# The reference, from docstrings. A name has one page; the methods of a class stand on it.
autosummary_generate = True
default_role = "autolink"
autosummary_imported_members = True
autodoc_member_order = "groupwise"
autodoc_typehints = "none"  # numpydoc says the types
autodoc_default_options = {"members": True}
numpydoc_show_class_members = False
templates_path = ["templates"]

# The theme, without anything that a page would have to fetch.
html_theme = "pydata_sphinx_theme"
html_title = "MatterStack"
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_domain_indices = False  # the reference is by name, and not by module
html_theme_options = {
    "show_prev_next": True,
    "navigation_depth": 3,
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


#: Pages that lie elsewhere in the repository, and where the site has them.
PAGES = {
    **{f"notebooks/{notebook.name}": f"tutorials/{notebook.name}" for notebook in ROOT.glob("notebooks/*.ipynb")},
    "notebooks/self_driving/photo_pce10.md": "tutorials/photo_pce10.md",
    "tests/README.md": "project/testing.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "README.md": "index.md",
}
#: Those of them that are copied before Sphinx looks for pages; the site has a first page of its own.
COPIED = {place: home for home, place in PAGES.items() if place != "index.md"}


def take_pages(app: Any) -> None:
    """Copy what lies elsewhere to where Sphinx finds pages."""
    for place, home in COPIED.items():
        text = (ROOT / home).read_text(encoding="utf-8")
        if home.endswith(".ipynb"):
            text = without_widgets(text)
        made = DOCS / place
        if not made.exists() or made.read_text(encoding="utf-8") != text:
            made.write_text(text, encoding="utf-8")


def without_widgets(notebook: str) -> str:
    """Leave the stills: a page without a kernel cannot draw a widget, and would ask the network for what draws it."""
    read = json.loads(notebook)
    for cell in read["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return json.dumps(read, ensure_ascii=False, indent=1)


def add_dark_twins(app: Any, page: str, source: list[str]) -> None:
    """Show a picture of a view, which stands in a paragraph of its own, in the colours of the reader's theme."""

    def both(image: re.Match[str]) -> str:
        alt, path = image.groups()
        twins = {"only-light": path, "only-dark": path.replace(".png", "-dark.png")}
        parts = (f"```{{image}} {twin}\n:alt: {alt}\n:class: {shown}\n```\n" for shown, twin in twins.items())
        return "\n".join(parts)

    source[0] = re.sub(r"^!\[([^]]*)\]\((views/[\w-]+\.png)\)$", both, source[0], flags=re.MULTILINE)


def relink(app: Any, page: str, source: list[str]) -> None:
    """Have links of a page, which are right in the repository, lead to the pages of the site."""
    place = Path(app.env.doc2path(page, base=False))
    home = ROOT / COPIED.get(place.as_posix(), f"docs/{place.as_posix()}")

    def lead(link: re.Match[str]) -> str:
        path, mark, anchor = link.group(1).partition("#")
        target = os.path.relpath(os.path.normpath(home.parent / path), ROOT)
        target = f"docs/{PAGES[target]}" if target in PAGES else target
        return f"]({os.path.relpath(ROOT / target, DOCS / place.parent)}{mark}{anchor})"

    source[0] = re.sub(r"\]\((?!https?:|mailto:|#)([^()\s]+)\)", lead, source[0])


def lead_to_name(app: Any, env: Any, node: Any, shown: Any) -> Any:
    """Lead a name in backticks to its page; one that is not public is shown where there is such a thing."""
    if node.get("refdomain") != "py":
        return None
    (tail,) = re.findall(r"(?:[A-Z]\w*\.)?\w+$", node["reftarget"])
    pages = env.domains.python_domain.objects
    names = sorted((name for name in pages if name.endswith(f".{tail}")), key=len)
    if names:
        page = pages[names[0]]
        return make_refnode(app.builder, node["refdoc"], page.docname, page.node_id, shown, names[0])
    return shown if pydoc.locate(node["reftarget"]) else None


def is_no_field(app: Any, kind: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples: their class tells of them already."""
    return True if (getattr(member, "__doc__", None) or "").startswith("Alias for field number") else None


def write_formula(writer: Any, node: Any) -> None:
    """Write a formula as MathML, which browsers draw by themselves."""
    formula = node.astext()
    if formula.startswith(("_", "^")):
        formula = "{}" + formula  # as in LiMO$_2$, whose index belongs to the text before it
    writer.body.append(tex2mathml(formula, as_block=isinstance(node, math_block)))
    raise SkipNode


def setup(app: Any) -> None:
    """Have Sphinx call what is above."""
    app.add_html_math_renderer("mathml", (write_formula, None), (write_formula, None))
    app.connect("builder-inited", take_pages, priority=1)
    app.connect("source-read", relink)
    app.connect("source-read", add_dark_twins)
    app.connect("missing-reference", lead_to_name)
    app.connect("autodoc-skip-member", is_no_field)
