"""What a request shows, and what its form says, without a browser."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import matterstack as ms
from matterstack.core.schemas import violations
from matterstack.core.task import Task
from matterstack.errors import UnknownDependencyError
from matterstack.notebook.context import context_html
from matterstack.notebook.forms import RequestForm
from matterstack.notebook.markdown import markdown_html
from matterstack.orchestration import inputs

EVIL = "</script><img src=x onerror=alert(1)>"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
CELL = '2\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3 pbc="T T T"\nCu 0 0 0\nAu 1.5 1.5 0\n'
CIF = """data_x
_cell_length_a 3
_cell_length_b 3
_cell_length_c 3
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Si1 Si 0 0 0
"""


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    @property
    def names(self) -> set[str]:
        return {tag for tag, _ in self.seen}


def ask(base: Path, show: Any, *before: ms.Task, **settings: Any) -> ms.Run:
    """Return a run whose request shows something, and waits."""
    pick = ms.Task("pick", instructions="Which?", show=show, **({"operator": "human"} | settings))
    operators = {"human": ms.HumanOperator(), "local": ms.LocalOperator(), "cluster": ms.ManualHPCOperator()}
    run = ms.initialize_run("w", ms.Workflow([*before, pick]), base_path=base, operators=operators)
    run.wait(timeout_s=180)
    return run


def leaving(task_id: str, **files: str | bytes) -> ms.Task:
    """Return a task that leaves files, and those alone."""
    given = {f"of/{name.replace('_', '.')}": content for name, content in files.items()}
    return ms.Task(task_id, "cp of/* .", files=given)


# -- Markdown ------------------------------------------------------------------------------------


def test_instructions_are_markdown_that_does_nothing() -> None:
    html = markdown_html(
        f"# Which {EVIL}?\n\n- **one** of `these`\n- see [a page](https://example.org/?a=1&b='2')\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n<div onclick=x>\n\n"
        "![far](https://example.org/x.png) <javascript:alert(1)>\n\n"
        "[a](javascript:alert(1)) [b](JaVaScRiPt:x) [c](data:text/html,x) [d](//example.org) "
        "[e][f]\n\n[f]: vbscript:x 'y'\n\n"
        "```html' onclick='x\n<b>\n```\n"
    )
    tags = Tags(html)
    assert tags.names == {
        "h1",
        "ul",
        "li",
        "strong",
        "code",
        "a",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "p",
        "pre",
    }
    assert [attributes["href"] for tag, attributes in tags.seen if tag == "a"] == ["https://example.org/?a=1&b=%272%27"]
    assert [attributes for tag, attributes in tags.seen if attributes and tag != "a"] == []
    assert "&lt;img src=x" in html
    assert "[picture: far]" in html
    long = markdown_html("**a** " * 5000)
    assert long.startswith("<pre")
    assert "\x1b" not in markdown_html("a \x1b[31m b")


SAFE = {
    "a",
    "p",
    "em",
    "strong",
    "del",
    "code",
    "pre",
    "blockquote",
    "ul",
    "ol",
    "li",
    "hr",
    "br",
    "table",
    "thead",
    "tbody",
}
SAFE |= {"tr", "th", "td", "h1", "h2", "h3", "h4", "h5", "h6"}
BITS = [
    "<",
    ">",
    "[",
    "]",
    "(",
    ")",
    "!",
    "`",
    "*",
    "_",
    "#",
    "|",
    "\n",
    "\n\n",
    " ",
    "'",
    '"',
    "&",
    "javascript:x",
    "http://a",
]
BITS += ["<img src=x onerror=y>", "<script>", "```", "~~", ": ", "- ", "1. ", "> ", "---", "&lt;", "&#58;", "\\", "a"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(BITS), max_size=25).map("".join))
@example("[a](http://a 'x' onclick='y')")
@example("[a]( javascript:x)")
@example("<http://a' onclick='y>")
@example('|a|\n|:-:"onclick=x|\n|b|')
def test_no_markdown_becomes_a_script_or_a_picture(text: str) -> None:
    for tag, attributes in Tags(markdown_html(text)).seen:
        assert tag in SAFE
        if tag == "a":
            assert set(attributes) <= {"href", "title", "target", "rel"}
            assert re.match("https?://|mailto:", str(attributes["href"]))
        else:
            assert set(attributes) <= {"style", "start"}
            assert re.fullmatch("text-align:(left|right|center)", attributes.get("style") or "text-align:left")


# -- errors in words -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "answer", "said"),
    [
        ({"items": {"enum": ["CuAu", "Cu"]}, "uniqueItems": True}, ["CuAu", "Cu", "CuAu"], "CuAu is chosen twice"),
        ({"uniqueItems": True}, [1, 1, 1, "a", "a"], "1 is there 3 times; a is there twice"),
        ({"uniqueItems": True}, [{"a": 1, "b": 2}, 1, {"b": 2, "a": 1}], "entries 1 and 3 are the same"),
        ({"uniqueItems": True}, [1, 1.0], "two entries are the same"),
        ({"minItems": 1}, [], "must have at least 1 entry, but has none"),
        ({"multipleOf": 5}, 7, "must be a multiple of 5, not 7"),
        ({"contains": {"const": 1}}, [2], "has no entry of the kind that is wanted"),
        ({"minProperties": 2}, {"a": 1}, "must have at least 2 parts, but has 1"),
        ({"dependentRequired": {"error": ["unit"]}}, {"error": 1}, "lacks 'unit', since there is 'error'"),
        ({"not": {"const": 1}}, 1, "must not be this: 1"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_said_in_words(schema: dict[str, Any], answer: Any, said: str) -> None:
    assert violations(schema, answer) == [f"$: {said}"]


# -- a request that is over ----------------------------------------------------------------------


def test_a_request_that_was_answered_is_in_no_inbox_and_its_form_says_so(tmp_path: Path) -> None:
    run = ask(tmp_path, ())
    elsewhere = ms.open_run(run.path)
    (request,) = run.inbox()
    form, late = (RequestForm(request, lambda _: run) for _ in range(2))
    assert (form.over, form.reason) == ("", request.reason)
    elsewhere.respond("pick", {"a": 1})
    assert not run.inbox(), "the next step takes it up"
    (blocker,) = run.explain()
    assert re.match("It was answered by .*UTC", blocker.why)
    assert blocker.remedy == "run.step() takes it up"
    assert not ms.inbox("w", base_path=tmp_path)
    form._glanced_at = -1000.0
    form.follower.look()
    assert re.match("It was answered by .*UTC", form.over)
    elsewhere.step()
    late._glanced_at = float("inf")  # it does not look into the directory, and hears of it by the journal
    late.follower.look()
    assert re.match("It was answered by .*UTC", late.over)
    assert "answered by" in RequestForm(request, lambda _: run).over, "a form that is made too late says so at once"


def test_a_form_says_why_an_answer_was_refused_and_that_the_run_was_cancelled(tmp_path: Path) -> None:
    run = ask(tmp_path, (), schema={"required": ["n"]})
    (request,) = run.inbox()
    form = RequestForm(request, lambda _: run)
    (request.directory / "response.json").write_text("{}")
    run.step()
    form.follower.look()
    assert "n: is missing" in form.reason
    assert form.over == ""
    run.cancel()
    form.follower.look()
    assert "cancelled" in form.over


def test_a_form_of_a_run_that_is_gone_is_a_form_still(tmp_path: Path) -> None:
    run = ask(tmp_path, ())
    (request,) = run.inbox()

    def gone(_: object) -> ms.Run:
        raise ms.errors.RunNotFoundError("it is gone")

    form = RequestForm(request, gone)
    sent: list[Any] = []
    form.send = sent.append
    form._heard(None, {"here": True}, None)
    form._heard(None, {"value": {}, "submit": True, "number": 1}, None)
    assert "it is gone" in sent[0]["outcome"]


# -- what a request shows ------------------------------------------------------------------------


def test_a_request_shows_what_it_is_about(tmp_path: Path) -> None:
    table = f"alloy,energy_eV\nCuAu,1.0281166789931415\n{EVIL},007\n"
    svg = "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
    data = json.dumps({"energy_eV": 1.0281166789931415, "note": EVIL})
    files = {
        "cell_xyz": CELL,
        "x_cif": CIF,
        "t_csv": table,
        "p_png": PNG,
        "v_svg": svg,
        "n_md": "**bold** " + EVIL,
        "l_log": EVIL,
    }
    relax = leaving("relax", **files, result_json=data)
    names = ["cell.xyz", "x.cif", "t.csv", "p.png", "v.svg", "n.md", "l.log"]
    run = ask(tmp_path, [relax, *(ms.FromTask("relax", name) for name in names)], relax)
    (request,) = run.inbox()
    assert request.show == ("relax/result.json", *(f"relax/{name}" for name in names))
    there = {str(path.relative_to(request.directory / "show")) for path in request.directory.glob("show/*/*")}
    assert there == set(request.show)
    assert json.loads((request.directory / "show/relax/result.json").read_text()) == json.loads(data)
    assert "show/ what they left" in (request.directory / "HOWTO.txt").read_text()
    assert "- `show/relax/t.csv`" in (request.directory / "instructions.md").read_text()
    html = context_html(request.directory, request.show)
    tags = Tags(html)
    pictures = [attributes for tag, attributes in tags.seen if tag == "img"]
    assert [str(picture["src"]).partition(",")[0] for picture in pictures] == [
        "data:image/svg+xml;base64",  # drawn, of the xyz and of the cif
        "data:image/svg+xml;base64",
        "data:image/png;base64",
        "data:image/svg+xml;base64",
    ]
    assert [picture["alt"] for picture in pictures[:2]] == ["AuCu", "Si"]
    assert not any(name.startswith("on") for _, attributes in tags.seen for name in attributes)
    assert "script" not in tags.names
    assert "<strong>bold</strong>" in html
    assert "<td class='ms-figure' title='1.0281166789931415'>1.02812</td>" in html
    assert "<td class='ms-figure'>007</td>" in html
    for shown in (repr(run.inbox()), run.inbox()._repr_html_()):
        assert "look at show/relax/t.csv" in shown
    assert html == RequestForm(request, lambda _: run).context


def test_what_is_missing_is_said_and_fails_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_SHOWN_BYTES", 1000)
    monkeypatch.setattr(inputs, "_ALL_SHOWN_BYTES", 1500)
    secret = tmp_path / "secret.txt"
    secret.write_text("secret words")
    run = ask(
        tmp_path,
        [ms.FromTask("a", name) for name in ("none.csv", "link.txt", "huge.txt", "1.txt", "2.txt")] + ["b", "c", "a"],
        ms.Task(
            "a",
            f"ln -s {secret} link.txt; head -c 2000 /dev/zero >huge.txt; "
            "for i in 1 2; do head -c 900 /dev/zero > $i.txt; done",
        ),
        ms.Task("b", "exit 1", allow_failure=True),
        ms.Task("c", "true", dependencies=["b"]),
        allow_dependency_failure=True,
    )
    (request,) = run.inbox()
    told = (request.directory / "show/_not_shown.txt").read_text()
    assert told.splitlines() == [
        "a/none.csv: a did not leave it: it is COMPLETED",
        "a/link.txt: link.txt is a link, a socket or below one: only plain files are read",
        "a/huge.txt: huge.txt holds 2000 bytes; 1000 at most are read",
        "a/2.txt: all that is shown has 1500 bytes at most",
        "b/result.json: b did not leave it: it is FAILED",
        "c/result.json: c did not run: it is SKIPPED",
        "a/result.json: a did not leave it: it is COMPLETED",
    ]
    html = context_html(request.directory, request.show)
    for line in told.splitlines():
        assert line.partition(": ")[2] in html
    assert "not there: a/none.csv: a did not leave it" in (request.directory / "instructions.md").read_text()
    assert "is no text" in html
    assert "secret" not in html
    run.respond("pick", {}).wait(timeout_s=180)
    assert run.tasks.loc["0.pick", "status"] == "COMPLETED"


def test_what_somebody_puts_into_the_folder_is_neither_followed_nor_believed(tmp_path: Path) -> None:
    run = ask(
        tmp_path,
        [ms.FromTask("a", "x.txt"), ms.FromTask("a", "y.json"), ms.FromTask("a", "z.xyz")],
        leaving("a", x_txt="x", y_json="{}", z_xyz="2\n"),
    )
    (request,) = run.inbox()
    secret = tmp_path / "secret.txt"
    secret.write_text("secret words")
    (request.directory / "show/a/x.txt").unlink()
    (request.directory / "show/a/x.txt").symlink_to(secret)
    (request.directory / "show/a/y.json").write_text("[" * 100_000)
    (request.directory / "show/_not_shown.txt").write_text(f"a/x.txt: {EVIL}")
    html = context_html(request.directory, request.show)
    assert "secret" not in html
    assert "only plain files are read" in html
    assert "img" not in Tags(html).names
    (request.directory / "show").rename(request.directory / "elsewhere")
    (request.directory / "show").symlink_to(request.directory / "elsewhere")
    assert "a link" in context_html(request.directory, request.show)


def test_a_kit_carries_what_it_shows(tmp_path: Path) -> None:
    kit = ms.Task("dft", "cat in.txt", operator="cluster", files={"in.txt": "x\n"}, show=ms.FromTask("a", "cell.xyz"))
    run = ms.initialize_run(
        "w",
        ms.Workflow([leaving("a", cell_xyz=CELL), kit]),
        base_path=tmp_path,
        operators={"local": ms.LocalOperator(), "cluster": ms.ManualHPCOperator()},
    )
    run.wait(timeout_s=180)
    (request,) = run.inbox()
    assert (request.directory / "show/a/cell.xyz").read_text() == CELL
    assert sorted(path.name for path in (request.directory / "inputs").iterdir()) == ["in.txt", "inputs.json"]
    assert "show/a/cell.xyz" in json.loads((request.directory / "MANIFEST.json").read_text())["sha256"]
    assert "alt='AuCu'" in RequestForm(request, lambda _: run).context
    assert "In show/ is what you may want to look at" in (request.directory / "HOWTO.txt").read_text()


@pytest.mark.parametrize(
    ("show", "settings", "says"),
    [
        ([3], {}, "must hold ms.FromTask"),
        ({"a": 1}, {}, "must be a list"),
        (["../x"], {}, "task id"),
        (["a"] * 101, {}, "at most 100"),
        ("a", {"files": {"Show/x": "y\n"}}, "leave the folder show/"),
        ("a", {"operator": "local", "command": "true"}, "asks nobody"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_shown_is_refused_before_a_run_starts(
    tmp_path: Path, show: Any, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ms.errors.MatterstackError, match=says):
        ask(tmp_path, show, ms.Task("a", "true"), **settings)


def test_what_is_shown_is_waited_for(tmp_path: Path) -> None:
    task = ms.Task(
        "pick", operator="human", show=[ms.FromTask("b", "x.png"), "a", ms.Task("a"), ms.FromTask("a", "result.json")]
    )
    assert task.upstream == ("b", "a")
    assert task.shown == (("b", "x.png"), ("a", "result.json"))
    assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task
    with pytest.raises(UnknownDependencyError, match=r"'relx'.*did you mean 'relax'"):
        ms.Workflow([ms.Task("relax", "true"), ms.Task("pick", operator="human", show=["relx"])]).check()


def test_a_structure_that_would_keep_the_kernel_busy_is_shown_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three hundred sites by 192 operations take ASE twenty seconds, and as many times longer as there are more."""
    from ase.io.cif import CIFBlock

    asked: list[str] = []
    get_atoms = CIFBlock.get_atoms
    monkeypatch.setattr(CIFBlock, "get_atoms", lambda block: asked.append(block.name) or get_atoms(block))
    home = tmp_path / "operators/human/0.pick.1"
    (home / "show/a").mkdir(parents=True)
    cubic = CIF.replace("loop_", "_symmetry_space_group_name_H-M 'F m -3 m'\n_symmetry_Int_Tables_number 225\nloop_")
    sites = "".join(f"Si Si 0.{n} 0.2{n} 0.1\n" for n in range(300))
    (home / "show/a/x.cif").write_text(cubic)
    (home / "show/a/y.cif").write_text(cubic + sites)
    html = context_html(home, ["a/x.cif", "a/y.cif"])
    assert asked == ["x"]
    assert html.count("<img") == 1
    assert "Si Si 0.299" not in html, "the text is bounded too"


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([".csv", ".json", ".xyz", ".cif", ".md", ".txt", ".svg", ".png"]))
def test_any_bytes_can_be_shown(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    home = tmp_path_factory.mktemp("run") / "operators/human/0.pick.1"
    (home / "show/a").mkdir(parents=True)
    (home / f"show/a/x{suffix}").write_bytes(content)
    html = context_html(home, [f"a/x{suffix}"])
    assert f"a/x{suffix}" in html
    assert "script" not in Tags(html).names
