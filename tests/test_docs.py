"""The tables in the documents are those of the code. Run this file to write them anew."""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

from matterstack import cli, errors
from matterstack.core.attempt_files import TABLE, Family
from matterstack.core.states import ATTEMPT_TRANSITIONS, RUN_TRANSITIONS, TASK_TRANSITIONS
from matterstack.notices.sinks import Notify
from matterstack.orchestration.budget import Spent
from matterstack.orchestration.session import Settings

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
NAMES = ROOT / "docs" / "attempt-directory.md"
BLOCK = re.compile(r"(?<=<!-- tables: begin -->\n).*?(?=<!-- tables: end -->)", re.DOTALL)


def tables() -> str:
    """Return the three tables as Markdown."""
    parts = []
    for name, table in (("run", RUN_TRANSITIONS), ("task", TASK_TRANSITIONS), ("attempt", ATTEMPT_TRANSITIONS)):
        rows = [f"| {name} | event → next |", "|---|---|"]
        for status, moves in table.items():
            rows.append(f"| {status} | {', '.join(f'{event} → {to}' for event, to in moves.items()) or 'none'} |")
        parts.append("\n".join(rows))
    return "\n" + "\n\n".join(parts) + "\n\n"


def test_status_tables_are_those_of_the_code() -> None:
    (found,) = BLOCK.findall(PAGE.read_text())
    assert found == tables(), "run `python tests/test_docs.py`"


def names() -> str:
    """Return the table of names in an attempt's directory as Markdown, a part for each family."""
    parts = []
    for family in Family:
        rows = [f"## {family.capitalize()}\n", "| name | written by | what it is |", "|---|---|---|"]
        rows += [f"| `{entry.name}` | {entry.writer} | {entry.meaning} |" for entry in TABLE if entry.family is family]
        parts.append("\n".join(rows))
    return "\n" + "\n\n".join(parts) + "\n\n"


def test_the_page_of_an_attempts_directory_is_that_of_the_code() -> None:
    (found,) = BLOCK.findall(NAMES.read_text())
    assert found == names(), "run `python tests/test_docs.py`"


VIEWS = ROOT / "docs" / "views"


def test_each_picture_of_a_view_is_shown_light_and_dark_and_can_be_made_again() -> None:
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    named = {name for page in pages for name in re.findall(r"\bviews/([\w-]+)\.png", page.read_text())}
    light = {name for name in named if not name.endswith("-dark")}
    assert {path.stem for path in VIEWS.iterdir()} == light | {f"{name}-dark" for name in light}
    assert light == set(re.findall(r'^    "([\w-]+)": Picture\(', (ROOT / "tests/pictures/make.py").read_text(), re.M))
    assert not [path.name for path in VIEWS.iterdir() if path.stat().st_size > 150_000]


COMMANDS = ROOT / "docs" / "command.md"


def commands(page: str) -> str:
    """Return the page of commands with the tables of commands and exit codes that the code has."""
    rows = ["| command | what it does |", "|---|---|"]
    known = cli.build().all
    for heading in dict.fromkeys(command.heading for command in known):
        rows.append(f"| **{heading}** | |")
        rows += [f"| `{one.usage}` | {one.said} |" for one in known if one.heading == heading]
    codes = [
        "| status | means |",
        "|---|---|",
        *(f"| {code} | {meaning} |" for code, meaning in cli.EXIT_CODES.items()),
    ]
    for name, table in (("commands", rows), ("codes", codes)):
        block = re.compile(rf"(?<=<!-- {name}: begin -->\n).*?(?=<!-- {name}: end -->)", re.DOTALL)
        text = "\n" + "\n".join(table) + "\n\n"
        page = block.sub(lambda _, text=text: text, page)
    return page


def test_the_tables_of_commands_are_those_of_the_parser() -> None:
    assert COMMANDS.read_text() == commands(COMMANDS.read_text()), "run `python tests/test_docs.py`"


OPTIONS = ROOT / "docs" / "reference" / "options.md"
#: Told once, above all commands.
EVERYWHERE = {"--help", "--json", "--base-path"}


def options() -> str:
    """Return what each command takes as Markdown: a section a command, a row an argument or option."""
    parts = []
    heading = ""
    for command in cli.build().all:
        if command.heading != heading:
            heading = command.heading
            parts.append(f"## {heading}")
        taken = [action for action in command.parser._actions if not EVERYWHERE & {*action.option_strings}]
        rows = [f"| {called(action)} | {said(action)} |" for action in taken]
        parts.append(f"### `{command.name}`\n\n{as_typed(command.parser.description)}")
        parts.append("\n".join(["| it takes | |", "|---|---|", *rows]))
        parts.append(f"```console\n$ {command.example}\n```")
    return "\n" + "\n\n".join(parts) + "\n\n"


def called(action: argparse.Action) -> str:
    """Return how an argument or option is written, as in `--zip` or `--log FILE`."""
    value = action.metavar or "{" + ",".join(action.choices or ()) + "}"
    names = action.option_strings or [str(value)]
    written = (f"`{name}`" if action.nargs == 0 or name == value else f"`{name} {value}`" for name in names)
    return ", ".join(written).replace("|", r"\|")


def said(action: argparse.Action) -> str:
    assert action.help, f"{called(action)} says nothing of itself"
    return as_typed(argparse.HelpFormatter("matterstack")._expand_help(action))


def as_typed(text: str | None) -> str:
    """Return a text of the help for a page: a line a paragraph, and what is typed in backticks."""
    unfolded = re.sub(r"(?<!\n)\n(?!\n)", " ", text or "")
    return re.sub(r"'[^']+'|(?<!\S)--[a-z][a-z-]*", lambda found: f"`{found[0]}`", unfolded)


def test_the_page_of_options_is_that_of_the_parser() -> None:
    (found,) = BLOCK.findall(OPTIONS.read_text())
    assert found == options(), "run `python tests/test_docs.py`"


def test_the_page_of_settings_has_each_setting_and_variable() -> None:
    page = (ROOT / "docs/reference/settings.md").read_text()
    names = {field.name for kind in (Settings, Notify) for field in fields(kind)} | {*Spent._fields}
    read = {name for path in PACKAGE.rglob("*.py") for name in re.findall(r"MATTERSTACK_[A-Z_]+", path.read_text())}
    ours = {"MATTERSTACK_ROOM", "MATTERSTACK_NOTIFY_TO"}  # room for the name of a process; an example of a name
    assert not [name for name in names | (read - ours) if f"`{name}`" not in page]


def test_the_first_block_of_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    (tmp_path / "first.py").write_text(block.group(1) + "\nprint(run.status, run.value('densest'))\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "first.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "COMPLETED Cu"


def test_links_between_pages_lead_somewhere() -> None:
    copied = {ROOT / "docs/tutorials": ROOT / "notebooks", ROOT / "docs/project": ROOT}  # by the build of the site
    written = [page for page in ROOT.glob("docs/**/*.md") if page.parent not in copied or page.name == "index.md"]
    for page in [*ROOT.glob("*.md"), *written, ROOT / "tests/README.md"]:
        places = [page.parent, copied.get(page.parent, page.parent)]
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert any((place / target).exists() for place in places), f"{page.name}: {target}"


def test_each_error_has_an_anchor_in_troubleshooting() -> None:
    told = re.findall(r"^### (\w+)$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(name for name, value in vars(errors).items() if isinstance(value, type))


# -- the map of the package ---------------------------------------------------------------------

MAP = re.compile(r"(?<=<!-- map: begin -->\n).*?(?=<!-- map: end -->)", re.DOTALL)
PACKAGE = ROOT / "matterstack"


def floors() -> list[list[str]]:
    """Return the floors of the house, from the roof down, as import-linter holds them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["name"] == "layers"]
    return [floor.split(" | ") for floor in layers]


def rooms() -> list[str]:
    """Return every room, from the roof down."""
    return [room for floor in floors() for room in floor]


def sources(room: str) -> list[Path]:
    file = PACKAGE / f"{room}.py"
    return [file] if file.exists() else sorted((PACKAGE / room).rglob("*.py"))


def imports_of(room: str) -> set[str]:
    """Return the other rooms that a room imports from when it runs."""
    found = set()
    for path in sources(room):
        tree = ast.parse(path.read_text())
        typing_only = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.ImportFrom)
                and node not in typing_only
                and (node.module or "").startswith("matterstack")
            ):
                parts = str(node.module).split(".")
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return {name for floor in floors() for name in floor if name in found} - {room}


def first_words(path: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0].rstrip(".").replace("|", "\\|")


def house() -> str:
    """Return the map as Markdown: a line a room, and a line each for what is in it."""
    rows = ["| floor | room | what is in it | knows |", "|---|---|---|---|"]
    for number, floor in enumerate(floors()):
        for room in floor:
            folder = (PACKAGE / room).is_dir()
            name, home = (
                (f"{room}/", PACKAGE / room / "__init__.py") if folder else (f"{room}.py", PACKAGE / f"{room}.py")
            )
            imported = imports_of(room)
            knows = [f"`{other}`" for other in rooms() if other in imported]
            rows.append(
                f"| {len(floors()) - number} | `{name}` | {first_words(home)} | {', '.join(knows) or 'nothing'} |"
            )
    parts = ["\n".join(rows)]
    for room in rooms():
        if (PACKAGE / room).is_dir():
            modules = [path for path in sources(room) if path.name != "__init__.py"]
            lines = [f"| in `{room}/` | |", "|---|---|"]
            lines += [f"| `{path.relative_to(PACKAGE / room)}` | {first_words(path)} |" for path in modules]
            parts.append("\n".join(lines))
    return "\n" + "\n\n".join(parts) + "\n\n"


def test_the_map_is_that_of_the_imports() -> None:
    (found,) = MAP.findall(PAGE.read_text())
    assert found == house(), "run `python tests/test_docs.py`"


def test_every_module_says_in_its_first_words_what_it_is() -> None:
    for path in PACKAGE.rglob("*.py"):
        words = first_words(path)
        assert words, path
        assert words.split()[0] not in {"What", "How", "Where", "When", "Which", "Since"}, f"{path}: {words}"


def test_programs_that_run_outside_the_package_need_nothing_of_it() -> None:
    """Each is loaded by a Python that has no site-packages and does not see the package."""
    for name in ("local/runner/serve.py", "jobs/chunk_runner.py", "jobs/site_agent.py", "requests/sum_files.py"):
        path = PACKAGE / "operators" / name
        module, place = (f"runner.{path.stem}", path.parents[1]) if "runner/" in name else (path.stem, path.parent)
        program = "import sys; sys.path.append(sys.argv[1]); __import__(sys.argv[2]); "
        program += "print([m for m in sys.modules if 'matterstack' in m])"
        command = [sys.executable, "-I", "-S", "-c", program, str(place), module]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=True)
        assert done.stdout.strip() == "[]", name


if __name__ == "__main__":
    COMMANDS.write_text(commands(COMMANDS.read_text()))
    OPTIONS.write_text(BLOCK.sub(lambda _: options(), OPTIONS.read_text()))
    NAMES.write_text(BLOCK.sub(lambda _: names(), NAMES.read_text()))
    PAGE.write_text(MAP.sub(lambda _: house(), BLOCK.sub(lambda _: tables(), PAGE.read_text())))
