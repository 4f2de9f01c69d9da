"""What the documents tell people to type exists: commands, options, links, files, make targets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from orchestrator.cli import app
from orchestrator.cli.console.help import FORMER
from orchestrator.training.recipe import Recipe

ROOT = Path(__file__).parents[1]
COMMAND = typer.main.get_command(app)
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    ROOT / "cluster" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
SCRIPTS = [
    *sorted((ROOT / "search_spaces").glob("*.toml")),
    *sorted(path for path in (ROOT / "cluster").glob("*") if path.suffix != ".md"),
    ROOT / "tests" / "demo.sh",
]
SOURCES = sorted((ROOT / "orchestrator").rglob("*.py"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What may stand before a command on its line.
BEFORE = {"-m", "--", "say", "run", "exec", "srun"}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> Iterator[str]:
    return (text for language, text in FENCED.findall(page.read_text("utf-8")) if language in languages)


def inline(path: Path) -> list[str]:
    """Code between single backticks."""
    return re.findall(r"`([^`\n]+)`", FENCED.sub("", path.read_text("utf-8")))


def command_lines(text: str) -> Iterator[list[str]]:
    """The words after `orchestrator` in shell text or in comments, with 1 for every variable."""
    text = re.sub(r"\\\n#?\s*", " ", text)
    text = re.sub(r"\$\{[^}]*\}|\$\w+", "1", text)
    for line in text.splitlines():
        line = re.sub(r"^#\s*(Run:|Launch:|Watch:|Stop:)?\s*", "", line.strip())
        for part in re.split(r"&&|;|\||>", line):
            if "orchestrator" in part:
                words = shlex.split(part, comments=True)
                yield from (words[i + 1 :] for i, word in enumerate(words) if _is_ours(words[:i], word))


def _is_ours(before: list[str], word: str) -> bool:
    if word != "orchestrator" and not word.endswith("/bin/orchestrator"):
        return False
    return not before or before[-1] in BEFORE or "=" in before[-1]


def parse(words: list[str]) -> None:
    """Refuse, as the program would, a command or option that does not exist."""
    command, rest = named(words)
    command.make_context(words[0], rest)


def named(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words begin with, and the words that are left for it."""
    command: Any = COMMAND
    while hasattr(command, "commands") and words and words[0] not in options(command):
        assert words[0] in command.commands, f"no command is named {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def options(command: Any) -> set[str]:
    return {option for param in command.params for option in (*param.opts, *param.secondary_opts)}


def leaves(command: Any) -> Iterator[Any]:
    """The commands, with those that others stand below: the top one, and some groups, have options of their own."""
    for below in getattr(command, "commands", {}).values():
        yield from leaves(below)
    yield command


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_in_a_page_are_taken(page: Path):
    for text in blocks(page, "sh", "bash", "console"):
        for words in command_lines(text):
            parse(words)


@pytest.mark.parametrize("script", SCRIPTS, ids=relative)
def test_commands_in_a_script_or_header_are_taken(script: Path):
    found = list(command_lines(script.read_text("utf-8")))
    assert found, "it says nowhere how to run it"
    for words in found:
        if "$@" not in words:  # the words of whoever starts the script
            parse(words)


@pytest.mark.parametrize("path", [*PAGES, *SOURCES], ids=relative)
def test_commands_and_options_that_are_mentioned_exist(path: Path):
    every_option = {option for command in leaves(COMMAND) for option in options(command)} | {"--help"}
    every_option |= options(COMMAND) | FORMER.keys()
    for code in inline(path):
        if code.startswith("orchestrator "):
            command, rest = named(code.partition(" -- ")[0].split()[1:])
            assert {word for word in rest if word.startswith("--")} <= options(command) | {"--help"}, code
        elif code.startswith("--"):
            assert code.split()[0] in every_option, code


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_of_a_page_lead_somewhere(page: Path):
    targets = re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text("utf-8")))
    near = [target.split("#")[0] for target in targets if not re.match(r"https?://|mailto:|#", target)]
    assert [target for target in near if not (page.parent / target).exists()] == []


def test_every_file_in_the_tree_of_the_rooms_exists():
    (tree,) = [text for text in blocks(ROOT / "CONTRIBUTING.md", "") if text.startswith("orchestrator/")]
    open_folders: list[str] = []
    for line in tree.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        open_folders[depth:] = [name]
        assert ROOT.joinpath(*open_folders).exists(), line


def test_every_page_is_in_the_navigation_and_on_the_first_page():
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    navigation = set(re.findall(r"- (\w+\.md)$", (ROOT / ".mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    linked = set(re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs" / "index.md").read_text("utf-8")))
    assert navigation == pages == linked | {"index.md"}


def test_files_that_pages_name_in_code_exist():
    for page in PAGES:
        for code in inline(page):
            if re.fullmatch(r"(orchestrator|models|search_spaces|tests|cluster)/[\w./-]+", code):
                assert (ROOT / code).exists(), f"{relative(page)}: {code}"


def test_make_targets_that_pages_name_exist():
    rules = re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    targets = {target for rule in rules for target in rule.split()}
    for page in PAGES:
        shell = [line for text in blocks(page, "sh") for line in text.splitlines()]
        asked = {match[1] for code in [*inline(page), *shell] if (match := re.match(r"make ([\w-]+)", code))}
        assert asked <= targets, relative(page)


def test_every_loss_optimizer_and_schedule_has_a_row_with_its_source():
    rows = [line for line in (ROOT / "docs/spaces.md").read_text().splitlines() if line.startswith("| `")]
    for field in ("loss", "optimizer", "schedule"):
        names = Recipe.model_fields[field].annotation.__args__  # type: ignore[union-attr]
        assert [name for name in names if not any(f"`{name}`" in row.split("|")[1] for row in rows)] == []


def test_a_command_is_found_where_people_write_it():
    text = "# Run:  python -m orchestrator data list && X=1 .venv/bin/orchestrator fit $S \\\n#   --data a  # why\n"
    assert list(command_lines(text)) == [["data", "list"], ["fit", "1", "--data", "a"]]
    assert list(command_lines("mypy orchestrator\ncd orchestrator models")) == []


@pytest.mark.parametrize(
    ("line", "stale"),
    [
        ("serach a.toml --data x --trials 3", "'serach'"),
        ("data ad name path", "'ad'"),
        ("search a.toml --data x --trials 3 --trails 3", "--trails"),
        ("search a.toml --data x --trials many", "integer"),
    ],
)
def test_a_stale_command_would_be_noticed(line: str, stale: str):
    with pytest.raises(Exception, match=stale):  # the library that says so is Typer's own affair
        parse(line.split())
