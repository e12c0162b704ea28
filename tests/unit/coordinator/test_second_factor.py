"""Codes of the time against the vectors of RFC 6238, once each; recovery codes."""

from datetime import UTC, datetime, timedelta

import pytest

from coordinator import second_factor
from shared.crypto.secret import Secret

SECRET = Secret(b"12345678901234567890")
# RFC 6238, appendix B, SHA-1; the last six of its eight digits.
VECTORS = {59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037"}
NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(("seconds", "code"), VECTORS.items())
def test_the_vectors_of_the_rfc(seconds: int, code: str) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    assert second_factor.code_at(SECRET, second_factor.step_at(moment)) == code
    assert second_factor.matching_step(SECRET, code, 0, moment) == seconds // 30


@pytest.mark.parametrize(("drift", "fits"), [(-61, False), (-30, True), (0, True), (30, True), (61, False)])
def test_a_clock_may_be_half_a_minute_off(drift: int, fits: bool) -> None:
    code = second_factor.code_at(SECRET, second_factor.step_at(NOW + timedelta(seconds=drift)))
    assert (second_factor.matching_step(SECRET, code, 0, NOW) is not None) == fits


def test_a_code_works_once_and_no_earlier_one_after_it() -> None:
    step = second_factor.step_at(NOW)
    code = second_factor.code_at(SECRET, step)
    assert second_factor.matching_step(SECRET, code, step - 1, NOW) == step
    assert second_factor.matching_step(SECRET, code, step, NOW) is None
    before = second_factor.code_at(SECRET, step - 1)
    assert second_factor.matching_step(SECRET, before, step, NOW) is None


@pytest.mark.parametrize("code", ["", "12345", "1234567", "١٢٣٤٥٦", "12 456", "abcdef"])
def test_what_is_no_code(code: str) -> None:
    assert second_factor.matching_step(SECRET, code, 0, NOW) is None


def test_recovery_codes_are_many_different_and_read_with_or_without_dashes() -> None:
    codes = second_factor.new_recovery_codes()
    assert len(set(codes)) == 10
    hashes = {second_factor.recovery_hash("a", one) for one in (codes[0], codes[0].upper().replace("-", " "))}
    assert len(hashes) == 1
    assert second_factor.recovery_hash("b", codes[0]) not in hashes


def test_the_uri_is_what_applications_read() -> None:
    uri = second_factor.provisioning_uri(SECRET, "federation-1", "ada")
    assert uri == (
        "otpauth://totp/Mitral%20federation-1%3Aada?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Mitral%20federation-1"
    )
