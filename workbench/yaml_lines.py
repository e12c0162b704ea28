"""A YAML file as nodes that know their lines, so that every error of a study file names one; safe and unambiguous.

Nothing is constructed from tags, duplicate keys and aliases are refused, and scalars keep the text that was written:
``0.10`` must become the decimal 0.1, not the float nearest to it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import yaml

LARGEST_FILE_BYTES = 1 << 20
_DEEPEST = 20
_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge")
}


class Problem(NamedTuple):
    """One thing that is wrong with a study file: where, under which key (dotted; empty for the file), and what."""

    line: int
    key: str
    text: str

    def __str__(self) -> str:
        """Return it as one line for people."""
        return f"line {self.line}: {self.key + ': ' if self.key else ''}{self.text}"


@dataclass(frozen=True)
class Scalar:
    """One written value: its text, whether YAML reads it as text, a number, a truth value or nothing, and its line."""

    text: str
    tag: str  # str, int, float, bool, null or timestamp
    line: int


@dataclass(frozen=True)
class Listing:
    """A list and the line it starts on."""

    items: list["Node"]
    line: int


@dataclass(frozen=True)
class Section:
    """A mapping: its entries by key, with the line of each key."""

    entries: dict[str, "Node"]
    key_lines: dict[str, int]
    line: int


Node = Scalar | Listing | Section


def read_yaml(raw: bytes) -> tuple[Section, list[Problem]]:  # noqa: PLR0911 (one return per flaw)
    """Return the top section of a YAML file and what is wrong with its form; an unreadable file is an empty section."""
    nothing = Section({}, {}, 1)
    if len(raw) > LARGEST_FILE_BYTES:
        return nothing, [Problem(1, "", f"the file has {len(raw)} bytes, at most {LARGEST_FILE_BYTES} are read")]
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return nothing, [Problem(raw[: error.start].count(b"\n") + 1, "", "the file is not UTF-8 text")]
    problems: list[Problem] = []
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                # A file of ten lines of aliases can stand for gigabytes, and a reader cannot see what a value is.
                line = event.start_mark.line + 1 if event.start_mark else 1
                return nothing, [Problem(line, "", f"*{event.anchor}: write the value out, aliases are not read")]
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        return nothing, [_unreadable(error)]
    if tree is None:
        return nothing, [Problem(1, "", "the file is empty")]
    top = _node(tree, "", problems, 0)
    if not isinstance(top, Section):
        return nothing, [Problem(1, "", "the file is not made of `key: value` lines"), *problems]
    return top, problems


def _unreadable(error: Exception) -> Problem:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    return Problem(mark.line + 1 if mark else 1, "", f"this is not YAML: {what}")


def _node(node: yaml.Node, path: str, problems: list[Problem], depth: int) -> Node:
    line = node.start_mark.line + 1
    tag = node.tag if node.tag in _PLAIN_TAGS else ""
    if not tag:
        problems.append(Problem(line, path, f"the tag {node.tag!r} is not read; write a plain value"))
    if depth > _DEEPEST:
        problems.append(Problem(line, path, f"nested more than {_DEEPEST} deep"))
        return Scalar("", "null", line)
    if isinstance(node, yaml.MappingNode):
        section = Section({}, {}, line)
        for key_node, value in node.value:
            key, key_line = str(key_node.value), key_node.start_mark.line + 1
            inner = f"{path}.{key}" if path else key
            if not isinstance(key_node, yaml.ScalarNode):
                problems.append(Problem(key_line, path, "a key is not plain text"))
            elif key in section.entries:
                first = section.key_lines[key]
                problems.append(Problem(key_line, inner, f"stands twice; it was given on line {first} already"))
            else:
                section.key_lines[key] = key_line
                section.entries[key] = _node(value, inner, problems, depth + 1)
        return section
    if isinstance(node, yaml.SequenceNode):
        items = [_node(item, f"{path}[{index}]", problems, depth + 1) for index, item in enumerate(node.value)]
        return Listing(items, line)
    return Scalar(str(node.value), tag.rpartition(":")[2] or "str", line)
