"""Every command shown in a document exists, with the options it is shown with."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from docs.writer.commands import PROGRAMS
from tests.support.tree import name_of, text_files

DOCUMENTS = [path for path in text_files() if path.suffix == ".md" and "reference" not in path.parts]
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples(document: Path) -> list[list[str]]:
    """Return the commands of ours in a document's code blocks, split into words; a trailing backslash joins lines."""
    lines = "\n".join(BLOCK.findall(document.read_text(encoding="utf-8"))).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.partition(" ")[0] in PROGRAMS]


def unknown_words(words: list[str]) -> list[str]:
    """Return the verbs and options of one command line that its program does not have."""
    command = get_command(importlib.import_module(PROGRAMS[words[0]]).app)
    wrong, rest = [], words[1:]
    while rest:
        word = rest.pop(0)
        options = {name: one for one in command.params for name in (*one.opts, *one.secondary_opts)}
        if word.startswith("-") and word not in options:
            wrong.append(word)
        elif word.startswith("-") and not getattr(options[word], "is_flag", False):
            rest = rest[1:]
        elif not word.startswith("-") and isinstance(command, TyperGroup):
            inner = command.commands.get(word)
            if not isinstance(inner, TyperCommand | TyperGroup):
                return [*wrong, word]
            command = inner
    return wrong


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if examples(path)], ids=name_of)
def test_commands_in_documents_exist(document: Path) -> None:
    wrong = {" ".join(words): unknown_words(words) for words in examples(document)}
    assert {line: words for line, words in wrong.items() if words} == {}


def test_an_invented_command_would_be_noticed() -> None:
    assert unknown_words(["mitral", "study", "abolish"]) == ["abolish"]
    assert unknown_words(["mitral", "study", "check", "study.yaml", "--quickly"]) == ["--quickly"]
    assert unknown_words(["mitral", "study", "fetch", "my-study", "--out", "result"]) == []
