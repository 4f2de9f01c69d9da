from __future__ import annotations

import pytest

from orchestrator.data.folders import contents_of, is_image, is_litter


@pytest.mark.parametrize(
    "name",
    [
        *(
            ".DS_Store",
            "._1.jpg",
            "Thumbs.db",
            "thumbs.DB",
            "Thumbs.db:encryptable",
            "desktop.ini",
            "__MACOSX",
        ),
        *("@eaDir", "$RECYCLE.BIN", "System Volume Information", "1.jpg:Zone.Identifier", "~$notes.docx"),
    ],
)
def test_what_operating_systems_leave_behind_is_litter(name):
    assert is_litter(name)


@pytest.mark.parametrize(
    "name", ["1.jpg", "README.txt", "masks", "thumbs", "cases.csv", "a.db", "10:30:05.jpg"]
)
def test_what_a_person_put_there_is_no_litter(name):
    assert not is_litter(name)


def test_litter_is_named_and_everything_else_is_listed_by_folder(tmp_path):
    for name in ("a/2.WEBP", "a/1.jpg", "a/Thumbs.db", "__MACOSX/a/._1.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/loop").symlink_to(tmp_path)
    contents = contents_of(tmp_path)
    assert {folder: [path.name for path in paths] for folder, paths in contents.files.items()} == {
        "": ["notes.txt"],
        "a": ["1.jpg", "2.WEBP"],
    }
    assert contents.litter == ("__MACOSX", "a/Thumbs.db")
    assert [path.name for path in contents.files["a"] if is_image(path)] == ["1.jpg", "2.WEBP"]
