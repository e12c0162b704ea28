"""Pages that are read from the source text, comments included: messages, settings, modules."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from docs.writer.markdown import plain, table

ROOT = Path(__file__).resolve().parents[2]
PROTOCOL = ROOT / "shared/protocol"
# The order in which a reader meets them, not the alphabet's.
PHASES = (
    "wire",
    "enrolment",
    "roster",
    "study",
    "work",
    "pairing",
    "round_context",
    "masked_update",
    "confirm_survivors",
    "unmask",
    "outcome",
    "log",
    "state_reset",
    "certificates",
)
SETTINGS = {"The coordinator": "coordinator/config.py", "The site agent": "site_agent/config.py"}


def type_text(annotation: ast.expr) -> str:
    """Return a type for people: `Annotated[int, Field(ge=1)]` is "int, ge=1"."""
    return re.sub(r"Annotated\[(.+?), Field\((.*?)\)\]", r"\1, \2", ast.unparse(annotation))


def class_fields(definition: ast.ClassDef, source: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, type, default and meaning of each field; the comment behind or above it is the meaning."""
    for statement in definition.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            written = "\n".join(source[statement.lineno - 1 : statement.end_lineno])
            comment = re.search(r"#\s*(?!noqa)(.*)$", written, re.MULTILINE)
            comment = comment or re.match(r"\s*#\s*(?!noqa|---)(.*)$", source[statement.lineno - 2])
            kind = type_text(statement.annotation)
            default = ast.unparse(statement.value) if statement.value else ""
            yield statement.target.id, kind, default, plain(comment.group(1)) if comment else ""


def message(definition: ast.ClassDef, source: list[str]) -> str:
    """Return one wire type as a heading, its docstring and its fields."""
    text = f"### {definition.name}\n\n{plain(ast.get_docstring(definition))}\n"
    rows = [(f"`{name}`", f"`{kind}`", meaning) for name, kind, _, meaning in class_fields(definition, source)]
    return text + ("\n" + table(("Field", "Type", "Meaning"), *rows) if rows else "")


def messages() -> str:
    """Return the page of every wire type, phase by phase."""
    text = (
        "# Messages\n\n"
        "Every object that travels, as the code defines it. All objects are strict: unknown keys, missing keys,\n"
        "coerced types and duplicate keys are refused. `Id` is 1 to 64 of `a-z 0-9 . _ -`, a letter or digit\n"
        "first; `Hash` is 64 lowercase hex digits; `Binary` is base64url without padding;\n"
        "`DecimalText` is a decimal number as text, because signed objects hold no floats; `Timestamp` is\n"
        "RFC 3339 in UTC ending in `Z`. A type that extends `SignedStatement` also has `site`, `seq` and `prev`,\n"
        "and travels as a DSSE envelope of type `application/vnd.mitral.sa1.<kind>+json`.\n"
    )
    for phase in PHASES:
        raw = (PROTOCOL / f"{phase}.py").read_text(encoding="utf-8")
        module = ast.parse(raw)
        classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
        text += f"\n## {phase.replace('_', ' ').capitalize()}\n\n{plain(ast.get_docstring(module))}\n"
        text += "".join("\n" + message(one, raw.splitlines()) for one in classes if one.name != "WireObject")
    return text


def settings() -> str:
    """Return the page of every setting of the two services."""
    text = (
        "# Settings\n\n"
        "Each service reads one TOML file in its state directory. A variable of the environment, the key in capitals\n"
        "behind the prefix shown, wins over the file. Unknown keys are errors.\n"
    )
    for title, path in SETTINGS.items():
        raw = (ROOT / path).read_text(encoding="utf-8")
        module = ast.parse(raw)
        prefix = re.search(r'env_prefix="(\w+)"', raw)
        text += f"\n## {title}\n\n{plain(ast.get_docstring(module))}\n\n"
        text += f"Prefix in the environment: `{prefix.group(1)}`.\n\n" if prefix else ""
        named = [node for node in module.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript)]
        aliases = {ast.unparse(node.targets[0]): type_text(node.value) for node in named}
        (fields,) = (node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
        rows = [
            (f"`{name}`", f"`{aliases.get(kind, kind)}`", f"`{default}`" if default else "required", meaning)
            for name, kind, default, meaning in class_fields(fields, raw.splitlines())
        ]
        text += table(("Key", "Type", "Default", "Meaning"), *rows)
    return text


def modules() -> str:
    """Return the page of every module with the first sentence of its docstring."""
    text = "# Modules\n\nEvery module, by package. [ARCHITECTURE](../../ARCHITECTURE.md) says how they meet.\n"
    for package in ("shared", "coordinator", "site_agent", "workbench"):
        rows = []
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.name != "__init__.py" and "migrations" not in path.parts:
                docstring = plain(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))))
                rows.append((f"`{path.relative_to(ROOT / package).as_posix()}`", docstring.partition("\n")[0]))
        text += f"\n## {package}\n\n" + table(("File", "What it is for"), *rows)
    return text
