"""Find the tests of each attack, for the page that lists them: a test of row 7 is called `test_row_07_...`."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2] / "tests"


def tests_by_row() -> dict[int, list[tuple[str, str]]]:
    """Return file and name of every test that carries a row's number, by row (`row_05_and_16` counts twice)."""
    found: dict[int, list[tuple[str, str]]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                numbered = re.match(r"test_row_(\d\d)_(?:and_(\d\d)_)?", node.name)
                for number in filter(None, numbered.groups() if numbered else ()):
                    found.setdefault(int(number), []).append((path.relative_to(TESTS.parent).as_posix(), node.name))
    return dict(sorted(found.items()))


def attack_tests() -> str:
    """Return the page of every attack's tests."""
    text = (
        "# Tests by attack\n\n"
        "Every test that carries the number of a row of the [threat model](threat-model.md), by row. The names are\n"
        "sentences; `python bootstrap.py test -k test_row_12` runs those of row 12.\n"
    )
    for row, tests in tests_by_row().items():
        text += f"\n## Row {row}\n\n"
        for file in dict.fromkeys(file for file, _ in tests):
            text += f"- `{file}`\n" + "".join(f"  - `{name}`\n" for where, name in tests if where == file)
    return text
