"""The table of codes and the code that raises them agree in both directions."""

import ast
import re

from shared.errors import CODES
from tests.support.tree import PACKAGES, ROOT, name_of, parsed, python_files

ERRORS = {"InputError", "Misuse", "MitralError", "PeerFault", "Refusal", "Unavailable"}
TABLE = ROOT / "shared/errors.py"


def raised_codes() -> dict[str, str]:
    """Return every literal code that an error is built from, with one place where that happens."""
    found = {}
    for path in python_files(*PACKAGES):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and node.args:
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                first = node.args[0]
                if called in ERRORS and isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found[first.value] = f"{name_of(path)}:{node.lineno}"
    return found


def test_every_code_that_is_raised_is_in_the_table() -> None:
    unknown = {code: place for code, place in raised_codes().items() if code not in CODES}
    assert not unknown


def test_every_code_in_the_table_is_used() -> None:
    # A code may be raised through a table (a refusal chosen by a check), so any literal outside the table counts.
    literals = {
        node.value
        for path in python_files(*PACKAGES)
        if path != TABLE
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert sorted(set(CODES) - literals) == []


def test_every_code_is_a_word_with_a_title_and_a_remedy() -> None:
    for code, meaning in CODES.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]{2,63}", code), code
        assert 400 <= meaning.status <= 599, code
        assert re.fullmatch(r".*[^.]", meaning.title), code
        assert re.fullmatch(r".*(\.|_ -|\?)", meaning.remedy), code
