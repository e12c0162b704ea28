"""Settings of a site, and where its key comes from."""

from pathlib import Path

import pytest

from shared.errors import InputError
from site_agent.config import read_settings
from site_agent.state_folder import StateFolder


def test_a_site_needs_no_settings_file(tmp_path: Path) -> None:
    settings = read_settings(tmp_path)
    assert (settings.poll_seconds, settings.proxy, settings.log_level) == (25, None, "info")


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site.toml").write_text('poll_seconds = 10\nproxy = "http://proxy:3128"\n')
    assert read_settings(tmp_path).poll_seconds == 10
    monkeypatch.setenv("MITRAL_SITE_POLL_SECONDS", "5")
    settings = read_settings(tmp_path)
    assert (settings.poll_seconds, settings.proxy) == (5, "http://proxy:3128")


@pytest.mark.parametrize(
    ("text", "named"), [("pol_seconds = 1", "pol_seconds"), ('poll_seconds = "x"', "poll_seconds"), ("=", "site.toml")]
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "site.toml").write_text(text)
    with pytest.raises(InputError, match=r"^settings_invalid:") as caught:
        read_settings(tmp_path)
    assert named in caught.value.detail


def test_the_key_may_come_from_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    (credentials / "mitral-site.kek").write_bytes(b"c" * 32)
    (credentials / "mitral-site.kek").chmod(0o400)
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    own = folder.kek(None)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert folder.kek(None).reveal() == b"c" * 32
    other = tmp_path / "elsewhere" / "kek"
    assert folder.kek(other).reveal() == other.read_bytes() != own.reveal()


def test_a_directory_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "state"
    root.mkdir()
    root.chmod(0o755)
    with pytest.raises(InputError, match=r"^state_permissions:"):
        StateFolder(root).prepare()
    root.chmod(0o700)
    StateFolder(root).prepare()
    assert all(path.stat().st_mode & 0o077 == 0 for path in root.iterdir())
