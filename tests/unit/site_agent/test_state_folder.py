"""The state directory's paths."""

from pathlib import Path

import pytest

from site_agent.state_folder import StateFolder


def test_a_relative_state_directory_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The training child runs in another folder; with relative paths it found neither its job nor its data.
    monkeypatch.chdir(tmp_path)
    folder = StateFolder(Path("hospital-a"))
    monkeypatch.chdir("/")
    assert folder.database == tmp_path / "hospital-a/state.db"
