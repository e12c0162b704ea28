"""The commented study file that `mitral study new` writes: it passes `check` as it is."""

from datetime import date, timedelta
from typing import Any

from workbench.study_fields import SECTIONS, Field, Kind, Required, fields_of

_COMMENT_COLUMN = 44


def example(task: str, today: date) -> str:
    """Return the text of a study file for `task` with every key that it can have, and what each means."""
    lines = [
        "# A Mitral study file. `mitral study check FILE` says what is wrong; `mitral study submit FILE` sends it.",
        "# Keys marked TO FILL IN have no default. All others may be left out: what stands here is the default.",
    ]
    shown: set[str] = set()
    for field in fields_of(task):
        lines += _openings(field.section, shown)
        indent = "  " * (field.path.count("."))
        value = task if field.path == "task.name" else _example_value(field, today)
        hidden = value is None or bool(field.models)
        text = f"{indent}{'# ' if hidden else ''}{field.name}: {_yaml(field, value)}"
        lines.append(f"{text:<{_COMMENT_COLUMN}} # {_comment(field)}".rstrip())
    return "\n".join(lines) + "\n"


def to_fill_in(task: str) -> list[str]:
    """Return the keys that a person has to fill in."""
    return [field.path for field in fields_of(task) if field.is_required and field.path != "task.name"]


def _openings(section: str, shown: set[str]) -> list[str]:
    lines = []
    parts = section.split(".") if section else []
    if "" not in shown:
        shown.add("")
        lines += ["", f"# {SECTIONS['']}."]
    for depth in range(1, len(parts) + 1):
        path = ".".join(parts[:depth])
        if path not in shown:
            shown.add(path)
            indent = "  " * (depth - 1)
            lines += [*([""] if depth == 1 else []), f"{indent}{parts[depth - 1]}:{' ' * 6}# {SECTIONS[path]}."]
    return lines


def _example_value(field: Field, today: date) -> Any:  # noqa: ANN401 (a YAML value)
    if field.path == "not_after":
        return str(today.replace(day=1) + timedelta(days=365))
    return field.default.example if isinstance(field.default, Required) else field.default


def _yaml(field: Field, value: Any) -> str:  # noqa: ANN401 (a YAML value)
    if value is None:
        return ""
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, dict):
        return "{}"
    return f'"{value}"' if field.kind is Kind.TEXT else str(value)


def _comment(field: Field) -> str:
    allowed = field.range_text()
    required = "TO FILL IN: " if field.is_required and field.path != "task.name" else ""
    only = f" (only with {', '.join(field.models)})" if field.models else ""
    return f"{required}{field.meaning}{only}" + (f" [{allowed}]" if allowed else "")
