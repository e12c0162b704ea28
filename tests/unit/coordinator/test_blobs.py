"""Files appear whole or not at all; a full disk leaves nothing behind."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.blobs.local import LocalBlobs
from coordinator.blobs.uploads import Uploads
from shared.canonical import sha256_hex
from shared.errors import InputError, MitralError, PeerFault, Unavailable

CTX = "ab" * 32


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def put_shares(uploads: Uploads, site: str, data: bytes) -> None:
    draft = uploads.draft(CTX, site)
    draft.write(data)
    uploads.keep_shares(CTX, site, draft)


def test_a_blob_is_named_by_its_digest_and_read_in_ranges(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    digest = blobs.put(b"0123456789")
    assert digest == sha256_hex(b"0123456789")
    assert blobs.size(digest) == 10
    assert blobs.read(digest) == b"0123456789"
    assert list(blobs.pieces(digest, 2, 5, 2)) == [b"23", b"45", b"6"]
    assert blobs.put(b"0123456789") == digest
    assert files(tmp_path) == [digest]


def test_an_unknown_or_malformed_digest_reaches_no_file(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    assert blobs.size("0" * 64) is None
    with pytest.raises(InputError, match="blob_unknown"):
        blobs.read("0" * 64)
    for odd in ("../" + "0" * 61, "0" * 63, "0" * 64 + "/", "AB" * 32):
        with pytest.raises(PeerFault, match="hash_malformed"):
            blobs.path(odd)


def test_drafts_of_a_crash_are_gone_after_a_restart(tmp_path: Path) -> None:
    blobs, uploads = LocalBlobs(tmp_path / "blobs"), Uploads(tmp_path / "uploads")
    blobs.draft().write(b"x")
    uploads.draft(CTX, "site-a").write(b"x")
    assert len(files(tmp_path)) == 2
    LocalBlobs(tmp_path / "blobs")
    Uploads(tmp_path / "uploads")
    assert files(tmp_path) == []


def test_chunks_are_found_again_and_other_bytes_are_a_conflict(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)

    def put(index: int, data: bytes) -> str:
        draft = uploads.draft(CTX, "site-a")
        draft.write(data)
        return uploads.keep_chunk(CTX, "site-a", index, draft)

    put(0, b"a")
    put(11, b"b")
    assert put(0, b"a") == sha256_hex(b"a")
    with pytest.raises(InputError, match="upload_conflict"):
        put(0, b"c")
    again = Uploads(tmp_path)
    assert again.chunks(CTX, "site-a") == {0: sha256_hex(b"a"), 11: sha256_hex(b"b")}
    assert bytes(again.chunk(CTX, "site-a", 11) or b"") == b"b"
    assert again.chunk(CTX, "site-a", 1) is None
    next(again.folder(CTX, "site-a").glob("chunk-000011-*")).write_bytes(b"")
    assert again.chunk(CTX, "site-a", 11) is None
    assert len(files(tmp_path)) == 2


def test_wiping_one_site_leaves_the_others(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    for site in ("site-a", "site-b"):
        put_shares(uploads, site, site.encode())
        uploads.sync(CTX, site)
    uploads.wipe_site(CTX, "site-a")
    assert uploads.shares(CTX, "site-a") is None
    assert uploads.shares(CTX, "site-b") == b"site-b"
    assert uploads.contexts() == [CTX]
    uploads.wipe(CTX)
    assert uploads.contexts() == []


def test_a_sites_name_cannot_leave_its_folder(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    for odd in ("../x", "a/b", "A", "", ".", ".."):
        with pytest.raises(InputError, match="id_malformed"):
            uploads.draft(CTX, odd)
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("name", ["write", "fsync", "open"])
def test_a_full_disk_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    blobs, uploads = LocalBlobs(tmp_path / "blobs"), Uploads(tmp_path / "uploads")
    actual: Callable[..., Any] = getattr(os, name)

    def full(first: Any, *rest: Any) -> Any:
        if name == "open" and "draft" not in str(first):
            return actual(first, *rest)
        raise OSError(number, "no room")

    monkeypatch.setattr(os, name, full)
    with pytest.raises(Unavailable, match="storage_full"):
        blobs.put(b"x" * 100)
    with pytest.raises(Unavailable, match="storage_full"):
        put_shares(uploads, "site-a", b"x")
    monkeypatch.undo()
    assert files(tmp_path) == []


def test_another_error_of_the_disk_is_not_called_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")

    def broken(*_: Any) -> Any:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(OSError, match="broken") as caught:
        blobs.put(b"x")
    assert not isinstance(caught.value, MitralError)
    monkeypatch.undo()
    assert files(tmp_path) == []
