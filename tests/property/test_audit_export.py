"""One flipped byte anywhere in an export is found, or was in the packaging and changed no member (PROTOCOLS B5)."""

import io
import zipfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.audit import verify
from tests.support.audit_story import tell

EXPORT = tell(1).export_bytes(derived=("fhir-r4", "csv"))


def members_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


MEMBERS = members_of(EXPORT)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(name for name, content in MEMBERS.items() if content)), st.data())
def test_one_flipped_byte_in_any_member_is_found(tmp_path: Path, name: str, data: st.DataObject) -> None:
    changed = bytearray(MEMBERS[name])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as opened:
        for one, content in MEMBERS.items():
            opened.writestr(one, bytes(changed) if one == name else content)
    assert not verify.verify(path).ok


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(EXPORT) - 1), st.integers(1, 255))
def test_one_flipped_byte_of_the_file_changes_no_member_unnoticed(tmp_path: Path, position: int, flip: int) -> None:
    changed = bytearray(EXPORT)
    changed[position] ^= flip
    path = tmp_path / "export.zip"
    path.write_bytes(changed)
    report = verify.verify(path)
    assert not report.ok or members_of(bytes(changed)) == MEMBERS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400), st.integers(0, len(EXPORT)))
def test_noise_is_a_finding_and_never_a_traceback(tmp_path: Path, noise: bytes, cut: int) -> None:
    path = tmp_path / "export.zip"
    for content in (noise, EXPORT[:cut] + noise, noise + EXPORT[cut:]):
        path.write_bytes(content)
        report = verify.verify(path)
        assert not report.ok or members_of(content) == MEMBERS
