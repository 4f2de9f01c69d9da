from __future__ import annotations

import pytest

from orchestrator.data.sources.folders import contents_of, is_image, is_litter


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
    assert list(contents.linked_texts()) == ["a/loop (the same as .)"]
    assert [path.name for path in contents.files["a"] if is_image(path)] == ["1.jpg", "2.WEBP"]


def linked_tree(top, links: dict[str, str]):
    """frames/1.jpg and outside of it other/2.jpg, with links below."""
    for name in ("top/frames/1.jpg", "other/deep/2.jpg"):
        (top / name).parent.mkdir(parents=True)
        (top / name).touch()
    for name, target in links.items():
        (top / "top" / name).symlink_to(target)
    contents = contents_of(top / "top")
    return [path.name for paths in contents.files.values() for path in paths], contents.linked


@pytest.mark.parametrize(
    ("links", "linked"),
    [
        ({"frames/self": "."}, {"frames/self": "frames"}),
        ({"frames/up": ".."}, {"frames/up": "."}),
        ({"frames/above": "../.."}, {"frames/above": ""}),
        ({"images": "frames"}, {"frames": "images"}),  # the name that was made for it
        ({"images": "frames", "pictures": "frames"}, {"frames": "images", "pictures": "images"}),
        ({"frames/a": "b", "frames/b": "a"}, {}),  # lead nowhere: files
    ],
)
def test_no_folder_is_read_twice_and_links_that_are_passed_over_are_named(tmp_path, links, linked):
    names, passed_over = linked_tree(tmp_path, links)
    assert [name for name in names if name not in "ab"] == ["1.jpg"]
    assert passed_over == linked


def test_folders_elsewhere_are_read_through_a_link_once(tmp_path):
    links = {"far": "../other", "frames/near": "../../other/deep", "more": "../other"}
    names, linked = linked_tree(tmp_path, links)
    assert sorted(names) == ["1.jpg", "2.jpg"]
    assert linked == {"more": "far", "frames/near": "far/deep"}
