from __future__ import annotations

import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packed import FRAME, MASK, tarred, write_tree, zipped

from orchestrator.common.errors import BadData, BadMachine
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.sources import unpack as unpacking
from orchestrator.data.sources.unpack import unpack


def a_zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def a_tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def zip_member(name: str, mode: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, mode << 16
    return member


def refusal(archive: Path) -> str:
    """The words of a refusal; neither the archive's folder nor any other holds anything new."""
    before = {path: path.stat().st_mtime_ns for path in archive.parent.rglob("*")}
    with pytest.raises(BadData) as error:
        unpack(archive, archive.parent / "into")
    assert {path: path.stat().st_mtime_ns for path in archive.parent.rglob("*")} == before
    return "\n".join(error.value.problems)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil.png", "leads out of the archive"),
        ("images/../../evil.png", "leads out of the archive"),
        ("images\\..\\..\\evil.png", "leads out of the archive"),
        ("/etc/evil.png", "has an absolute path"),
        ("C:\\evil.png", "has an absolute path"),
        ("\\\\host\\evil.png", "has an absolute path"),
        ("images/evil\n.png", "has a name that cannot be printed"),
        (f"images/{'x' * 300}.png", "has a name of more than 240 bytes"),
        ("images/" + "\u00e9" * 130 + ".png", "has a name of more than 240 bytes"),
    ],
)
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_name_that_could_do_harm_is_refused(tmp_path, name, words, form):
    if form == "zip":
        archive = a_zip(tmp_path / "a.zip", ("images/1.png", b"good"), (name, b"bad"))
    else:
        archive = a_tar(tmp_path / "a.tar", tar_member("images/1.png"), tar_member(name.replace("\\", "/")))
    assert words in refusal(archive)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: a_zip(p, (zip_member("a", stat.S_IFLNK | 0o777), b"/etc/passwd")), "'a' is a link"),
        (lambda p: a_zip(p, (zip_member("a", stat.S_IFIFO), b"")), "'a' is neither a file nor a folder"),
        (lambda p: a_tar(p, tar_member("a", tarfile.SYMTYPE, "../..")), "'a' is a link"),
        (lambda p: a_tar(p, tar_member("a", tarfile.LNKTYPE, "b")), "'a' is a link"),
        (lambda p: a_tar(p, tar_member("a", tarfile.CHRTYPE)), "'a' is neither a file nor a folder"),
        (lambda p: a_tar(p, tar_member("a", tarfile.FIFOTYPE)), "'a' is neither a file nor a folder"),
        (lambda p: a_zip(p, ("a.png", b""), ("A.PNG", b"")), "'a.png', 'A.PNG' differ only in case or Unicode form"),
        (lambda p: a_zip(p, ("\u00e9", b""), ("e\u0301", b"")), r"'\xe9', 'e\u0301' differ only in"),
        (lambda p: a_zip(p, ("a/b", b""), ("a/./b", b"")), "'a/b' occurs 2 times"),
        (lambda p: a_tar(p, tar_member("a"), tar_member("a")), "'a' occurs 2 times"),
        (lambda p: a_zip(p, ("images", b""), ("Images/1.png", b"")), "'images' is a file and a folder"),
        (lambda p: a_zip(p), "found none"),
    ],
)  # fmt: skip
def test_links_devices_doubles_and_nothing_at_all_are_refused(tmp_path, make: Callable[[Path], Path], words):
    assert words in refusal(make(tmp_path / "archive"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_all_members_that_do_harm_are_named_at_once(tmp_path):
    members = [("../a", b""), ("/b", b""), ("c", b""), ("c", b"")]
    assert len(refusal(a_zip(tmp_path / "a.zip", *members)).splitlines()) == 3


def test_an_encrypted_member_is_refused_with_what_to_do(tmp_path):
    archive = a_zip(tmp_path / "a.zip", ("images/1.png", b"secret"))
    content = bytearray(archive.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    archive.write_bytes(content)
    assert "'images/1.png' is encrypted; unpack the archive with its password" in refusal(archive)


@pytest.mark.parametrize("form", ["zip", "tar.gz", "tar.xz"])
def test_a_bomb_is_refused_by_how_much_it_grows(tmp_path, monkeypatch, form):
    monkeypatch.setattr(unpacking, "BOMB_BYTES", 1 << 20)
    archive = tmp_path / f"bomb.{form}"
    if form == "zip":
        a_zip(archive, *((f"{n}.png", bytes(1 << 20)) for n in range(4)))
    else:
        with tarfile.open(archive, f"w:{form[4:]}") as tar:  # type: ignore[call-overload]
            member = tarfile.TarInfo("1.png")
            member.size = 4 << 20
            tar.addfile(member, io.BytesIO(bytes(4 << 20)))
    assert "like a decompression bomb" in refusal(archive)


def test_members_that_share_their_bytes_count_each(tmp_path, monkeypatch):
    """The bomb without nesting: a thousand entries of the directory that lead to one stream."""
    monkeypatch.setattr(unpacking, "BOMB_BYTES", 1 << 20)
    monkeypatch.setattr(unpacking, "BOMB_RATIO", 10)
    archive = a_zip(tmp_path / "a.zip", *((f"{n:04}", bytes(2000)) for n in range(2)))
    content = archive.read_bytes()
    start = content.index(b"PK\x01\x02")
    size = (content.index(b"PK\x05\x06") - start) // 2
    entry = content[start : start + size]
    entries = b"".join(entry.replace(b"0000", f"{n:04}".encode()) for n in range(1000))
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1000, 1000, len(entries), start, 0)
    archive.write_bytes(content[:start] + entries + end)
    assert "like a decompression bomb" in refusal(archive)


def test_more_bytes_or_members_than_allowed_are_refused(tmp_path, monkeypatch):
    archive = a_zip(tmp_path / "a.zip", ("1", bytes(100)), ("2", bytes(100)))
    with pytest.raises(BadData, match="expected at most 150 bytes when unpacked, found more"):
        unpack(archive, tmp_path / "into", room=150)
    monkeypatch.setattr(unpacking, "MAX_MEMBERS", 1)
    assert "expected at most 1 files, found more" in refusal(archive)


def test_a_disk_without_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    archive = a_zip(tmp_path / "a.zip", ("1", bytes(100)))
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 99}))
    with pytest.raises(BadMachine, match="unpacks to 100 bytes, found 99 free"):
        unpack(archive, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


def test_every_damaged_member_is_named(tmp_path):
    archive = zipped(
        write_tree(tmp_path / "s", {f"{n}.bin": bytes([n]) * 50 for n in range(3)}), tmp_path / "z", 0
    )
    content = archive.read_bytes()
    archive.write_bytes(
        content.replace(bytes([1]) * 50, bytes([9]) * 50).replace(bytes([2]) * 50, bytes([9]) * 50)
    )
    with pytest.raises(BadData) as error:
        unpack(archive, tmp_path / "into")
    assert [problem.split(":")[0] for problem in error.value.problems] == [
        "'1.bin' is damaged",
        "'2.bin' is damaged",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Rar!\x1a\x07\x01\x00" + bytes(100), "found a RAR archive; unpack it and add the folder"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "found a 7z archive"),
        (b"name,group\n1,2\n", "found a file of another kind"),
        (b"", "found an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "found a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "found a web page"),
        (b"PK\x03\x04" + bytes(100), "does not open as a zip archive"),
        (b"\x1f\x8b" + bytes(100), "does not open as a tar archive"),
    ],
)
def test_a_file_that_is_no_archive_we_read_is_refused_with_what_it_is(tmp_path, content, words):
    (tmp_path / "download.zip").write_bytes(content)
    with pytest.raises(BadData, match=words):
        add_dataset(tmp_path / "home", "X", tmp_path / "download.zip")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_half_a_download_is_refused(tmp_path, share):
    archive = zipped(
        write_tree(tmp_path / "s", {"images/1.png": FRAME, "masks/1.png": MASK}), tmp_path / "a.zip"
    )
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * share)])
    with pytest.raises(BadData, match="does not open as a zip archive"):
        add_dataset(tmp_path / "home", "X", archive)


@pytest.mark.parametrize("form", ["gz", "bz2", "xz"])
def test_a_compressed_tar_is_read_to_its_checksum(tmp_path, form):
    archive = tarred(write_tree(tmp_path / "s", {"1.png": FRAME}), tmp_path / f"a.tar.{form}")
    content = bytearray(archive.read_bytes())
    content[-5 if form == "gz" else -15] ^= 1
    archive.write_bytes(content)
    assert any(words in refusal(archive) for words in ("is damaged", "does not open"))


def test_a_tar_that_goes_on_behind_its_end_is_refused(tmp_path):
    archive = a_tar(tmp_path / "a.tar", tar_member("1.png"))
    archive.write_bytes(archive.read_bytes() + bytes(2 << 20))
    assert "has data after its end" in refusal(archive)


def test_backslashes_of_windows_are_folders(tmp_path):
    unpack(a_zip(tmp_path / "a.zip", ("images\\", b""), ("images\\1.png", b"x")), tmp_path / "into")
    assert (tmp_path / "into/images/1.png").read_bytes() == b"x"


@pytest.mark.parametrize("form", ["zip", "tar"])
@pytest.mark.parametrize(
    ("encoding", "name"), [("gb2312", "\u606f\u8089"), ("utf-8", "M\u00fcller"), ("cp437", "\u00fc1")]
)
def test_names_in_encodings_that_the_archive_does_not_say_are_read(tmp_path, form, encoding, name):
    """As Windows in China and macOS write them; German names of old zips stay as they are."""
    raw = f"images/{name}.png".encode(encoding)
    stand_in = "x" * len(raw)
    archive = tmp_path / "a"
    if form == "zip":
        a_zip(archive, (stand_in, b"content"))
        archive.write_bytes(archive.read_bytes().replace(stand_in.encode(), raw))
    elif encoding == "cp437":
        return  # not in a tar
    else:
        with tarfile.open(archive, "w", encoding=encoding) as tar:
            tar.addfile(tarfile.TarInfo(f"images/{name}.png"))
    unpack(archive, tmp_path / "into")
    assert [path.name for path in (tmp_path / "into/images").iterdir()] == [f"{name}.png"]
