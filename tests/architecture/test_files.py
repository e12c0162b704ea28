"""The habits of the house that no linter checks: small files, prose in `__init__.py`, nouns for names."""

import ast
import re

import pytest

from tests.support.tree import PACKAGES, ROOT, name_of, parsed, python_files, text_files

LONGEST_FILE = 300
SHORT_AGAIN = 280
# A file past 300 lines wants a reason. It stands here, beside the file's name.
LONG_FILES: dict[str, str] = {
    "shared/audit/verify.py": "an auditor carries this one file away; it imports nothing of Mitral",
    "shared/errors.py": "one table of every code, one line each",
    "workbench/rehearsal/federation.py": "the whole ceremony of a federation, one step after the other",
    "site_agent/storage/tables.py": "the whole schema, read beside its migration",
}

BANNED_NAMES = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}

# Facts about one developer's machine have no place in a repository others clone.
PRIVATE = {
    "a path of one machine": r"(?<![\w.])/(work|root|home/\w+|Users/\w+|farm)/",
    "a package index's host": r"registry\.[a-z]+\.(org|com)|py[p]i\.org|python[h]osted|deb\.[a-z]+\.org",
}


def test_no_file_grows_past_300_lines_without_a_reason() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files(*PACKAGES)}
    too_long = {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE and name not in LONG_FILES}
    assert not too_long
    assert {name for name in LONG_FILES if lengths.get(name, 0) < SHORT_AGAIN} == set(), "no longer long: strike it out"


def test_init_files_hold_prose_only() -> None:
    for path in python_files(*PACKAGES, "tests"):
        if path.name == "__init__.py":
            statements = parsed(path).body
            code = [statement for statement in statements if not isinstance(statement, ast.Expr)]
            assert not code, f"{name_of(path)} holds code"
            assert ast.get_docstring(parsed(path)), f"{name_of(path)} says nothing about its package"


def test_no_file_is_named_after_nothing() -> None:
    banned = [name_of(path) for path in python_files(*PACKAGES, "tests") if path.stem in BANNED_NAMES]
    assert not banned


@pytest.mark.parametrize("fact", PRIVATE)
def test_the_tree_knows_nothing_about_one_machine(fact: str) -> None:
    pattern = re.compile(PRIVATE[fact])
    here = name_of(ROOT / "tests/architecture/test_files.py")
    found = [
        f"{name_of(path)}:{number}"
        for path in text_files()
        if name_of(path) != here
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, f"{fact} stands in {found}"
