"""Passwords: Argon2id with RFC 9106's parameters, and what is too weak."""

import pytest

from coordinator.passwords import check_password, hash_password, is_password
from shared.crypto.secret import Secret
from shared.errors import InputError


def secret(text: str) -> Secret:
    return Secret(text.encode())


def test_a_hash_is_argon2id_salted_and_fits_its_password_only() -> None:
    first, second = (hash_password(secret("a heart of gold")) for _ in range(2))
    assert first.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert first != second
    assert is_password(first, secret("a heart of gold"))
    assert not is_password(first, secret("a heart of golD"))


def test_nobody_and_a_damaged_hash_fit_nothing() -> None:
    assert not is_password(None, secret("nobody has this password"))
    assert not is_password("not a hash", secret("x"))


def test_another_keyboards_spelling_is_the_same_password() -> None:
    assert is_password(hash_password(secret("Zürich im Nebel")), secret("Zu\u0308rich im Nebel"))


@pytest.mark.parametrize(
    "password", ["", "short", "elevenchars", "aaaaaaaaaaaaaaaa", "ababababababab", "x" * 129, "my name is ADA-1 today"]
)
def test_what_is_too_weak(password: str) -> None:
    with pytest.raises(InputError, match="password_weak"):
        check_password(password, "ada-1")


def test_a_sentence_is_good() -> None:
    check_password("three ships came sailing", "ada-1")
