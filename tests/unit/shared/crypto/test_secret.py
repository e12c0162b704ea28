import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from shared.crypto.secret import Secret
from shared.errors import Misuse


def test_no_way_of_printing_shows_it() -> None:
    secret = Secret(b"hunter2-hunter2")
    shown = f"{secret} {secret!r} {secret!s} {secret:>40} {[secret]} { ({'key': secret}) }" + "%s %r" % (secret, secret)  # noqa: UP031
    assert "hunter2" not in shown
    assert shown.count("<secret>") == 8
    assert secret.reveal() == b"hunter2-hunter2"


def test_comparison_length_and_hash() -> None:
    assert Secret(b"a" * 32) == Secret(bytearray(b"a" * 32))
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"
    assert len(Secret(b"abc")) == 3
    assert Secret(b"")
    with pytest.raises(TypeError):
        hash(Secret(b"a"))


def test_it_keeps_a_private_copy() -> None:
    buffer = bytearray(b"abc")
    secret = Secret(buffer)
    buffer[:] = b"xyz"
    assert secret.reveal() == b"abc"


def test_it_is_never_pickled_or_copied() -> None:
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(Misuse, match="secret_exposed"):
            act(Secret(b"a"))
    with pytest.raises(AttributeError):
        Secret(b"a").__dict__  # noqa: B018


@pytest.mark.skipif(sys.platform == "win32", reason="modes and limits of POSIX")
def test_a_guarded_process_leaves_no_core_file_and_no_file_for_others(tmp_path: Path) -> None:
    code = (
        "import resource; from shared.crypto.secret import guard_process; guard_process(); "
        "open('made', 'w').close(); print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())}, umask=0,
    )  # fmt: skip
    assert done.stdout.strip() == "(0, 0)"
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600
