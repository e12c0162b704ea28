"""The repository as files: what the architecture tests read."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("coordinator", "shared", "site_agent", "workbench")
# Text that people read or tools run; everything else in the tree is data.
TEXT_SUFFIXES = {".cfg", ".html", ".ini", ".json", ".md", ".py", ".sh", ".sql", ".toml", ".txt", ".yaml", ".yml"}
NOT_OURS = {".git", ".venv", "build", "dist", "__pycache__"}


def is_ours(path: Path) -> bool:
    """Answer whether a path belongs to the repository rather than to a tool's cache."""
    parts = path.relative_to(ROOT).parts
    return not any(part in NOT_OURS or part.endswith((".egg-info", "_cache")) for part in parts)


def text_files() -> Iterator[Path]:
    """Yield every file of the repository that holds text."""
    named = {"Makefile", "LICENSE", "run"}
    for path in sorted(ROOT.rglob("*")):
        if path.is_file() and is_ours(path) and (path.suffix in TEXT_SUFFIXES or path.name in named):
            yield path


def python_files(*folders: str) -> Iterator[Path]:
    """Yield the Python files below the given top-level folders (default: the four packages)."""
    for folder in folders or PACKAGES:
        yield from (path for path in sorted((ROOT / folder).rglob("*.py")) if is_ours(path))


def parsed(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name_of(path: Path) -> str:
    """Return a path as it is written in documents: relative, with forward slashes."""
    return path.relative_to(ROOT).as_posix()
