"""Numbers with their nouns: "1 lane", "2 lanes", and no "lane(s)" in anything that is printed or logged."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from orchestrator.common.display import counted, plural

PACKAGE = Path(__file__).parents[2] / "orchestrator"
EITHER = re.compile(r"[a-z}]\((s|es|ies)\)")
ALLOWED = "http(s)://"  # both are addresses


def test_a_noun_follows_its_number():
    assert [counted(count, "lane") for count in (0, 1, 2, 12_000)] == [
        "0 lanes",
        "1 lane",
        "2 lanes",
        "12,000 lanes",
    ]
    assert plural(1, "column") == "column" and plural(3, "column") == "columns"


def test_no_text_of_the_program_leaves_the_plural_open():
    files = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.sbatch"), *PACKAGE.rglob("*.sh")]
    assert len(files) > 300
    found = [
        f"{file.relative_to(PACKAGE)}: {text}"
        for file in files
        for text in _texts(file)
        if EITHER.search(text.replace(ALLOWED, ""))
    ]
    assert not found


def _texts(file: Path) -> list[str]:
    text = file.read_text("utf-8")
    if file.suffix != ".py":
        return [text]
    nodes = ast.walk(ast.parse(text))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
