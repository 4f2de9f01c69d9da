from __future__ import annotations

from pathlib import Path

import pytest
from packed import FRAME, MASK, write_tree

from orchestrator.data.groups.group_table import read_groups
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.sources.pairs import Membership

STEMS = ["c0", "c1", "c2"]
PLAIN = "name,group,center\nc0,p1,A\nc1,p1,A\nc2,p2,B\n"
MEMBERS = {"c0": Membership("p1", "A"), "c1": Membership("p1", "A"), "c2": Membership("p2", "B")}


def table(tmp_path: Path, text: str | bytes, stems: list[str] = STEMS, **options: str):
    path = tmp_path / "groups.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_groups(path, stems, **options)


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (PLAIN, ""),
        (PLAIN.replace(",", ";"), "separated by semicolons"),
        (PLAIN.replace(",", "\t"), "separated by tabs"),
        ("sep=;\n" + PLAIN.replace(",", ";"), "separated by semicolons"),
        (PLAIN.replace("\n", "\r\n"), ""),
        ("\n" + PLAIN.replace("\n", "\n\n"), ""),
        (PLAIN.replace("c0", '"c0"').replace("p1", '" p1 "'), ""),
        (b"\xef\xbb\xbf" + PLAIN.encode(), ""),
        (PLAIN.encode("utf-16"), "read as utf-16"),
        (PLAIN.encode("utf-16-le"), "read as utf-16-le"),
        (PLAIN.replace("name,group,center", " Name ,Group,CENTER"), "column 'Name' is read as the name"),
        (
            PLAIN.replace("name,group,center", "filename,Patient ID,Hospital"),
            "'Patient ID' is read as the group",
        ),
        (PLAIN.replace("name,group,center", "image,video,centre"), "'centre' is read as the center"),
        (
            PLAIN.replace("c0", "c0.png").replace("c1", "images/c1.JPG"),
            "suffixes and folders of names are left out",
        ),
        (PLAIN.replace("c0", "C0").replace("c1", "data\\C1.Tif"), "capitals of names are ignored"),
    ],
)
def test_a_groups_file_is_read_however_it_was_saved_and_how_is_reported(tmp_path, text, remark):
    read = table(tmp_path, text)
    assert read.members == MEMBERS
    assert read.problems == ()
    assert any(remark in one for one in read.remarks) if remark else not read.remarks


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "utf-16"])
def test_umlauts_are_read_in_the_encodings_of_spreadsheets(tmp_path, encoding):
    read = table(tmp_path, "name;group\ngef\u00e4\u00df;M\u00fcller\n".encode(encoding), ["gefa\u0308\u00df"])
    assert list(read.members.values()) == [Membership("M\u00fcller")]


def test_leading_zeros_that_a_spreadsheet_took_away_are_made_up_for(tmp_path):
    read = table(tmp_path, "name,group\n1,a\n12,b\n", ["0001", "0012"])
    assert read.members == {"0001": Membership("a"), "0012": Membership("b")}
    assert "leading zeros of names are ignored: '1', '12'" in read.remarks[0]


def test_of_several_columns_of_names_the_one_that_names_cases_is_read(tmp_path):
    read = table(tmp_path, "id,image,patient\n1,c0,p1\n2,c1,p1\n3,c2,p2\n")
    assert [member.group for member in read.members.values()] == ["p1", "p1", "p2"]


def test_every_problem_of_a_groups_file_comes_at_once(tmp_path):
    read = table(tmp_path, "name,group\nc0,p1\nc0,p2\nghost,p2,x\n")
    assert read.problems == (
        "groups.csv: line 4: expected 2 cells, found 3",
        "groups.csv: rows that contradict each other: 'c0' is in group 'p1' (line 2: 'c0'), "
        "group 'p2' (line 3: 'c0'); keep one for each image",
        "groups.csv: names without a case: 'ghost' (line 4)",
        "groups.csv: cases without a row: 'c1', 'c2'; a row may leave its cell empty",
    )


def test_rows_of_one_image_that_say_the_same_are_harmless_and_counted(tmp_path):
    read = table(tmp_path, f"{PLAIN}c0.png, p1 ,A\nc0,p1,A\n")
    assert (read.members, read.problems) == (MEMBERS, ())
    assert "repeated rows with equal content: 'c0' (lines 2, 5, 6)" in read.remarks[-1]


@pytest.mark.parametrize("row", ["c0,p1,B", "c0,,A", "test/c0.png,p9,A"])
def test_rows_of_one_image_that_differ_in_group_or_center_are_refused_with_both(tmp_path, row):
    (problem,) = table(tmp_path, f"{PLAIN}{row}\n").problems
    name, group, center = row.split(",")
    assert "'c0' is in group 'p1' of center 'A' (line 2: 'c0')" in problem
    assert f"group {group!r} of center {center!r} (line 5: {name!r})" in problem


def test_a_table_of_a_whole_publication_serves_a_part_of_it(tmp_path):
    others = "".join(f"d{n},P{n % 2},C\n" for n in range(40))
    read = table(tmp_path, f"{PLAIN}d40,p2,none\nd41,P1,\n{others}")
    assert (read.members, read.problems) == (MEMBERS, ())
    (remark,) = read.remarks  # none about cells of images that are not here
    assert "42 rows of other images, ignored: 'd40' (line 5)" in remark


def test_a_table_that_names_no_image_is_refused_with_names_of_both(tmp_path):
    (problem,) = table(tmp_path, "name,group\nx1,a\nx2,b\n").problems
    assert "names no image: its rows are named 'x1' (line 2), 'x2' (line 3)" in problem
    assert "images are named 'c0', 'c1', 'c2'" in problem
    assert "it has no rows" in table(tmp_path, "name,group\n").problems[0]


@pytest.mark.parametrize(("text", "sep"), [("1.0", ","), ("1.00", ","), ("1,0", ";"), ('="0001"', ",")])
@pytest.mark.parametrize("stem", ["1", "0001"])
def test_names_that_a_spreadsheet_made_numbers_of_are_read(tmp_path, text, sep, stem):
    read = table(tmp_path, f"name{sep}group\n{text}{sep}a\n2.5{sep}b\n", [stem])
    assert (read.members, read.problems) == ({stem: Membership("a")}, ())


def test_a_name_with_a_decimal_is_first_what_it_says(tmp_path):
    read = table(tmp_path, "name,group\n1.0,a\n1,b\n", ["1", "1.0"])
    assert read.members == {"1": Membership("b"), "1.0": Membership("a")}
    assert table(tmp_path, "name,group\n1.0,a\n1,b\n01,c\n", ["1", "01"]).members.keys() == {"1", "01"}


@pytest.mark.parametrize(
    ("name", "what"), [("1.23457E+11", "number"), ("01-Feb", "date"), ("02. Jan", "date")]
)
def test_names_that_a_spreadsheet_spoiled_are_refused_with_the_remedy(tmp_path, name, what):
    read = table(tmp_path, f"name,group\nc0,a\n{name},b\n", ["c0", "123456789012"])
    assert f"{name!r} seems to be a {what} that a spreadsheet made of a name" in read.problems[-1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "name,patient,video\nc0,a,b\n",
            "patient, video could each be the group; pick one with --group-column",
        ),
        ("name,patient,video\nc0,a,b\n", "cases without a row: 'c1', 'c2'"),
        ("name,polyp\nc0,a\n", "expected a column 'group' (video, patient) or 'center', found name, polyp"),
        ("who,group\nc0,a\n", "expected a column 'name' with the names of the images, found who, group"),
        ("name,group,group\nc0,a,b\n", "columns given more than once: 'group'"),
        ("", "found no headings"),
        (b"PK\x03\x04\x14\x00", "found a workbook (.xlsx, .ods); save the sheet as CSV"),
    ],
)
def test_a_groups_file_that_could_mean_several_things_is_refused_with_the_remedy(tmp_path, text, words):
    assert words in "\n".join(table(tmp_path, text).problems)


def test_a_column_that_was_asked_for_and_is_not_there_is_refused(tmp_path):
    read = table(tmp_path, PLAIN, group_column="lesion", center_column="ward")
    assert read.problems == tuple(
        f"groups.csv: expected the column {column!r} of --{kind}-column, found name, group, center"
        for column, kind in (("lesion", "group"), ("ward", "center"))
    )


def test_words_for_nothing_are_no_groups_and_that_is_reported(tmp_path):
    read = table(tmp_path, "name,group\nc0,NaN\nc1, - \nc2,none\n")
    assert {member.group for member in read.members.values()} == {""}
    assert read.remarks == (
        "groups.csv: '-', 'NaN', 'none' is read as no group, 3 times",
        "groups.csv: no case has a group, so groups are unknown",
    )


def test_groups_that_differ_in_capitals_alone_stay_apart_and_are_named(tmp_path):
    read = table(tmp_path, "name,group\nc0,P1\nc1,p1\nc2,p2\n")
    assert [member.group for member in read.members.values()] == ["P1", "p1", "p2"]
    assert "'P1' and 'p1' are different groups" in read.remarks[0]


def source(tmp_path: Path) -> Path:
    files = {
        f"{kind}/{stem}.png": pixels
        for stem in STEMS
        for kind, pixels in (("images", FRAME), ("masks", MASK))
    }
    return write_tree(tmp_path / "source", files)


@pytest.mark.parametrize(
    ("text", "known", "remark"),
    [
        (PLAIN, True, None),
        (PLAIN.replace("p1", "").replace("p2", ""), False, "no case has a group, so groups are unknown"),
        (
            PLAIN.replace("p2", " "),
            False,
            "1 of 3 cases have no group, so groups count as unknown: 'c2' (line 4)",
        ),
        ("name,center\nc0,A\nc1,A\nc2,B\n", False, None),
    ],
)
def test_groups_are_known_only_where_every_case_has_one(tmp_path, text, known, remark):
    (tmp_path / "g.csv").write_text(text)
    dataset = add_dataset(tmp_path / "home", "X", source(tmp_path), groups=tmp_path / "g.csv")
    assert dataset.groups_known is known
    assert [case.center for case in dataset.cases] == ["A", "A", "B"]
    assert dataset.remarks == (() if remark is None else (f"g.csv: {remark}",))


def test_a_patient_whose_umlaut_is_written_in_two_ways_is_one(tmp_path):
    members = table(tmp_path, "name,group\nc0,J\u00fcrgen\nc1,Ju\u0308rgen\nc2,p2\n").members
    assert members["c0"] == members["c1"] != members["c2"]


@pytest.mark.parametrize("other", ["1", "1.0", "1,0"])
def test_groups_that_are_one_number_written_in_two_ways_are_named(tmp_path, other):
    remarks = table(tmp_path, f"name;group\nc0;001\nc1;{other}\nc2;2\n").remarks
    assert any(
        f"'001' and '{other}' are different groups, although they are one number" in one for one in remarks
    )


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("#REF!", "errors or formulas of a spreadsheet: '#REF!'; correct them"),
        ("#WERT!", "errors or formulas"),
        ("####", "errors or formulas"),
        ("=A1", "errors or formulas"),
        ("p1\u200b", r"invisible characters: 'p1\u200b'"),
        ("p1\x1b[31m", "invisible characters"),
        ("image:1", "'image:' at the beginning"),
    ],
)
def test_cells_that_name_no_group_although_they_look_so_are_refused(tmp_path, cell, words):
    (problem,) = table(tmp_path, PLAIN.replace("p2", cell)).problems
    assert words in problem


def test_groups_of_one_image_each_are_said_and_names_are_no_groups(tmp_path):
    read = table(tmp_path, "name,group\nc0,p0\nc1,p1\nc2,p2\n")
    assert "each of the 3 images has a group of its own" in read.remarks[0]
    assert "cannot be the group" in table(tmp_path, PLAIN, group_column="name").problems[0]
