import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import InputError, Unavailable
from shared.secagg.roster import roster_hash
from tests.support.audit_story import tell
from workbench.audit import verify_export


def test_it_reports_every_rule(tmp_path: Path) -> None:
    story = tell(1)
    path = story.export(tmp_path / "export.zip")
    known = roster_hash(story.rosters[0][0])
    assert verify_export(path).ok
    assert verify_export(path, f" {known.upper()}\n").ok
    assert not verify_export(path, "11" * 32).ok
    path.write_bytes(path.read_bytes()[:-1])
    assert not verify_export(path).ok


def test_what_a_person_gets_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="export_missing"):
        verify_export(tmp_path / "nowhere.zip")
    path = tell(1).export(tmp_path / "export.zip")
    for text in ("", "abc", "zz" * 32):
        with pytest.raises(InputError, match="export_roster_hash"):
            verify_export(path, text)


def test_it_needs_nothing_but_cryptography() -> None:
    """No other installed package is imported on the way, so the base installation is enough."""
    code = (
        "import sys; before = set(sys.modules); import workbench.audit, shared.audit.verify; "
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before "
        "if 'site-packages' in (getattr(sys.modules[name], '__file__', '') or '')}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages = {name for name in done.stdout.strip()[1:-1].replace("'", "").split(", ") if name and name[0] != "_"}
    assert packages <= {"cryptography", "cffi", "typing_extensions"}


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tell(1).export(tmp_path / "export.zip")
    monkeypatch.delitem(sys.modules, "shared.audit.verify", raising=False)
    monkeypatch.delattr("shared.audit.verify", raising=False)
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(Unavailable, match="cryptography"):
        verify_export(path)
