"""What a user's JSON and TOML can do to a parser is bounded before it is parsed."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from orchestrator.common.errors import BadSpace, BadSplit
from orchestrator.common.user_documents import MB, parse_json, parse_toml, read_bounded, read_json, shown
from orchestrator.search.space.space_file import parse_space

NUMBERS = ",".join(str(number) for number in range(150_000))
TOML = {
    "dots": "a." * 200_000 + "a = 1",
    "quoted dots": "\"a\" . 'b'." * 60_000 + "a = 1",
    "a deep header": "[" + "a." * 100_000 + "a]",
    "brackets": "a = " + "[" * 500_000,
    "braces": "a = " + "{a=" * 200_000,
    "a hexadecimal number": "a = 0x" + "f" * 900_000,
    "a decimal number": "a = " + "9" * 5_000,
    "many values": f'network = "unet"\n[search]\nlearning_rate = {{ choice = [{NUMBERS}] }}',
    "many keys": "[search]\n" + "".join(f"a{number} = 1\n" for number in range(60_000)),
    "many tables": "".join(f"[a{number}]\n" for number in range(60_000)),
    "an open string": 'a = "' + '\\"' * 400_000,
    "size": "#" * 2_000_000,
}


@pytest.mark.parametrize("name", TOML)
def test_a_search_space_that_means_harm_is_refused_in_words_and_small_memory(name: str):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadSpace) as refused:
        parse_space(TOML[name])
    assert len(str(refused.value)) < 2_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


@pytest.mark.parametrize(
    "text", ["a = 'a.b.c' # [[[[ a.b.c", 'a = """\n[[[\n"""\nb = [1.5, 2.5]', "a.b.'c d' = 1e5"]
)
def test_dots_and_brackets_of_texts_comments_and_numbers_are_not_nesting(text: str):
    assert parse_toml("\n".join(f"[t{number}]\n{text}" for number in range(50)))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "nested more than 32 deep"),
        ('{"a":' * 33 + "1" + "}" * 33, "nested more than 32 deep"),
        ('{"a": 1, "a": 2}', "key 'a' is given more than once"),
        ("NaN", "expected finite numbers, found NaN"),
        ("[-Infinity]", "expected finite numbers"),
        ("1e999", "expected finite numbers"),
        ("9" * 5_000, "one of 5,000 digits"),
        ("9223372036854775808", "at most 64 bits"),
        (r'["\ud800"]', "lone surrogate"),
        ("\x00", "Expecting value"),
        ("", "Expecting value"),
    ],
)
def test_json_that_means_harm_is_refused_in_words(text: str, why: str):
    with pytest.raises(ValueError, match=why):
        parse_json(text.encode())


def test_json_as_programs_write_it_is_read():
    value = {"[": ["]" * 40, '}\\"{', "\U0001f600"], "b": [1, 2.5, -3, None, True, {}], "ids": ["x"] * 1000}
    assert parse_json(json.dumps(value).encode()) == value == parse_json(json.dumps(value, indent=1).encode())
    assert parse_json("\ufeff[1]".encode()) == [1]


def test_a_pipe_a_folder_and_a_huge_file_are_refused_before_they_are_read(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(300 * MB)
    for name, why in (
        ("pipe", "a pipe"),
        ("", "a folder"),
        ("huge", "found 300 MB"),
        ("gone", "No such file"),
    ):
        with pytest.raises(BadSplit, match=why):
            read_json(tmp_path / name, BadSplit, megabytes=1)
    with pytest.raises(BadSplit, match="is not a path"):
        read_bounded(Path("a\x00b"), BadSplit, megabytes=1)


def test_what_a_message_shows_is_short_and_nothing_that_a_terminal_obeys():
    assert shown("a" * 9_999).endswith("...") and len(shown("a" * 9_999)) <= 200
    assert shown("\x1b[2J") == r"'\x1b[2J'" and shown("ä") == "'ä'"
