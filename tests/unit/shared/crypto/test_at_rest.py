import stat
import threading
from pathlib import Path

import pytest

from shared.crypto.at_rest import load_or_create_kek, open_at_rest, seal_at_rest
from shared.crypto.secret import Secret
from shared.errors import InputError, Misuse, PeerFault

KEK = Secret(bytes(range(32)))


def test_round_trip_and_fresh_nonces() -> None:
    one, two = seal_at_rest(KEK, b"text", "table/1"), seal_at_rest(KEK, b"text", "table/1")
    assert one != two
    assert open_at_rest(KEK, one, "table/1") == open_at_rest(KEK, two, "table/1") == b"text"
    assert open_at_rest(KEK, seal_at_rest(KEK, b"", ""), "") == b""


def test_every_changed_byte_other_context_and_other_key_are_refused() -> None:
    sealed = seal_at_rest(KEK, b"text", "table/1")
    for position in range(len(sealed)):
        altered = bytearray(sealed)
        altered[position] ^= 0x80
        with pytest.raises(PeerFault, match="at_rest_damaged"):
            open_at_rest(KEK, bytes(altered), "table/1")
    for cut in range(len(sealed)):
        with pytest.raises(PeerFault, match="at_rest_damaged"):
            open_at_rest(KEK, sealed[:cut], "table/1")
    with pytest.raises(PeerFault, match="at_rest_damaged"):
        open_at_rest(KEK, sealed, "table/2")
    with pytest.raises(PeerFault, match="at_rest_damaged"):
        open_at_rest(Secret(bytes(32)), sealed, "table/1")
    with pytest.raises(Misuse, match="key_length"):
        open_at_rest(Secret(bytes(31)), sealed, "table/1")


def test_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "state" / "kek"
    key = load_or_create_kek(path)
    assert len(key) == 32
    assert load_or_create_kek(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in (path.parent).iterdir()] == ["kek"]


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o420, 0o666])
def test_wider_file_permissions_are_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "state" / "kek"
    load_or_create_kek(path)
    path.chmod(mode)
    with pytest.raises(InputError, match="key_file_permissions"):
        load_or_create_kek(path)


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777])
def test_wider_directory_permissions_are_refused(tmp_path: Path, mode: int) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    with pytest.raises(InputError, match="key_file_permissions"):
        load_or_create_kek(state / "kek")
    assert [entry.name for entry in (state).iterdir()] == []


def test_a_damaged_or_replaced_key_file_is_never_overwritten(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    path = state / "kek"
    for content in (b"", b"short", bytes(33)):
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(0o400)
        with pytest.raises(InputError, match="key_file_damaged"):
            load_or_create_kek(path)
        assert path.read_bytes() == content
    path.unlink()
    (state / "elsewhere").write_bytes(bytes(32))
    (state / "elsewhere").chmod(0o400)
    path.symlink_to(state / "elsewhere")
    with pytest.raises(InputError, match="key_file_damaged"):
        load_or_create_kek(path)
    path.unlink()
    path.symlink_to(state / "nowhere")
    with pytest.raises(InputError, match="key_file_damaged"):
        load_or_create_kek(path)
    path.unlink()
    path.mkdir(mode=0o700)
    with pytest.raises(InputError, match="key_file_damaged"):
        load_or_create_kek(path)


def test_two_starters_get_the_same_key(tmp_path: Path) -> None:
    found: list[Secret] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        found.append(load_or_create_kek(tmp_path / "state" / "kek"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(key == found[0] for key in found)
    assert [entry.name for entry in (tmp_path / "state").iterdir()] == ["kek"]
