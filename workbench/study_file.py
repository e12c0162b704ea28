"""One YAML file becomes one study protocol. All errors at once, each with key, line and the nearest valid key."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from shared.canonical import JsonObject
from shared.clock import parse_timestamp
from shared.errors import InputError, MitralError
from shared.protocol.study import Plan
from shared.protocol.wire import VERSION
from shared.strategies.registry import check_strategy
from shared.task_catalogue import check_metrics, check_task
from workbench.study_fields import SECTIONS, TASK_FIELDS, Field, Required, every_field, fields_of
from workbench.study_values import WrongValueError, convert
from workbench.yaml_lines import Listing, Node, Problem, Scalar, Section, read_yaml


class StudyFileError(InputError):
    """``study_file_invalid``: everything that is wrong with a study file, in the order of its lines."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        """Sort the problems and put them all into the detail."""
        self.problems = sorted(set(problems))
        count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        super().__init__("study_file_invalid", "\n".join([f"{name}: {count}", *(f"  {one}" for one in self.problems)]))


MOST_BITS = 20  # q; more would say nothing: the rounding is far below the noise of training already


@dataclass(frozen=True)
class StudyDraft:
    """A checked study file: all of a plan except the first model version, which is built from it."""

    values: JsonObject
    placeholders: list[str]  # keys that still hold the example's value

    def plan(self, initial_model: str, dimension: int) -> Plan:
        """Return the study protocol with the digest of its first model version and the number of its weights.

        Raises:
            PeerFault: ``message_malformed`` (the keys' table and the protocol disagree: a bug).
        """
        return Plan.check({**self.values, "initial_model": initial_model, "dimension": dimension})


def load_study_file(path: Path, now: datetime) -> StudyDraft:
    """Read and check a study file.

    Raises:
        InputError: ``study_file_missing``; ``study_file_invalid`` (a StudyFileError with all problems).
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError("study_file_missing", f"{path}: {error.strerror}") from error
    return read_study(raw, path.name, now)


def read_study(raw: bytes, name: str, now: datetime) -> StudyDraft:
    """Check the bytes of a study file called `name`.

    Raises:
        InputError: ``study_file_invalid`` (a StudyFileError with all problems).
    """
    top, problems = read_yaml(raw)
    if not top.entries:
        raise StudyFileError(name, problems or [Problem(1, "", "the file holds no keys")])
    task = _find(top, "task.name")
    known_task = task.text if isinstance(task, Scalar) and task.text in TASK_FIELDS else None
    fields = fields_of(known_task) if known_task else every_field()
    problems += _unknown_keys(top, "", fields)
    values: JsonObject = {}
    given: dict[str, int] = {}
    for field in fields:
        value, line = _read(top, field, known_task, problems)
        if line is not None:
            given[field.path] = line
        _put(values, field.path, value)
    if not problems:
        _drop_what_the_model_lacks(values, top, fields, problems)
        problems += _together(values, given, now)
    if problems:
        raise StudyFileError(name, problems)
    placeholders = [
        field.path
        for field in fields
        if isinstance(field.default, Required)
        and field.path != "task.name"
        and _is_example(field, _value(values, field))
    ]
    return StudyDraft(_as_plan(values), placeholders)


def _read(top: Section, field: Field, task: str | None, problems: list[Problem]) -> tuple[Any, int | None]:
    node = _find(top, field.path)
    if node is None:
        if isinstance(field.default, Required) and (task or not field.path.startswith("task.") or field.name == "name"):
            where = f" in section {field.section}" if field.section else ""
            problems.append(
                Problem(_section_line(top, field.section), field.path, f"is missing{where}: {field.meaning}")
            )
        return (None if isinstance(field.default, Required) else field.default), None
    if field.default is None and isinstance(node, Scalar) and node.tag == "null":
        return None, node.line
    try:
        return convert(field, node), node.line
    except WrongValueError as error:
        problems.append(Problem(error.line, field.path, str(error)))
        return None, node.line


def _unknown_keys(section: Section, path: str, fields: tuple[Field, ...]) -> Iterator[Problem]:
    """Yield a problem for every key that means nothing where it stands, and for values where a section belongs."""
    prefix = f"{path}." if path else ""
    keys = [field.name for field in fields if field.section == path]
    inner = [name for name in SECTIONS if name and name.rpartition(".")[0] == path]
    known = [*keys, *(name.rpartition(".")[2] for name in inner)]
    for key, node in section.entries.items():
        full = f"{prefix}{key}"
        if full in inner:
            if isinstance(node, Section):
                yield from _unknown_keys(node, full, fields)
            elif not (isinstance(node, Scalar) and node.tag == "null"):
                yield Problem(node.line, full, "a value stands here; expected a section with keys of its own")
        elif key not in keys:
            yield Problem(section.key_lines[key], full, f"unknown key; {_nearest(key, path, known, fields)}")


def _nearest(key: str, path: str, known: list[str], fields: tuple[Field, ...]) -> str:
    elsewhere = {field.name: field for field in reversed(every_field()) if field.section != path or field not in fields}
    lower = key.lower()
    if lower in elsewhere:
        field = elsewhere[lower]
        if field.section == "":
            return "it belongs to the top level of the file"
        if field not in fields:
            tasks = [name for name, own in TASK_FIELDS.items() if field in own]
            return f"{field.path} belongs to the task {' or '.join(tasks)}"
        return f"it belongs to section {field.section}: {field.path}"
    near = get_close_matches(lower, known, 1, 0.6)
    if near:
        return f"the nearest valid key is {near[0]}"
    far = get_close_matches(lower, list(elsewhere), 1, 0.75)
    if far:
        return f"the nearest valid key is {elsewhere[far[0]].path}"
    near = get_close_matches(lower, known, 1, 0)
    return (
        f"the nearest valid key is {near[0]} (valid here: {', '.join(known)})" if near else f"valid: {', '.join(known)}"
    )


def _drop_what_the_model_lacks(
    values: JsonObject, top: Section, fields: tuple[Field, ...], problems: list[Problem]
) -> None:
    for field in fields:
        model = values["task"]["model"]["name"]
        if field.models and model not in field.models:
            node = _find(top, field.path)
            if node is not None:
                problems.append(Problem(node.line, field.path, f"the model {model} has no {field.name}; leave it out"))
            del values["task"]["model"][field.name]


def _together(values: JsonObject, given: dict[str, int], now: datetime) -> Iterator[Problem]:
    """Yield what is wrong only when several keys are read together."""

    def problem(path: str, text: str) -> Problem:
        return Problem(given.get(path, 1), path, text)

    values["sites"].sort()
    count = len(values["sites"])
    needed = (count - 1).bit_length()  # |P| * (2^(q-1) - 1) <= 2^(b-1) - 1 (PROTOCOLS A9)
    numbers = values["secure_aggregation"]
    room = numbers["b"] - needed
    if numbers["q"] is None:
        numbers["q"] = min(room, MOST_BITS)
    if numbers["q"] > room or room < 2:
        text = f"{count} sites need {needed} bits of b = {numbers['b']} for the sum; that leaves {room}"
        yield problem("secure_aggregation.q", text)
    least = numbers["least_survivors"]
    if least is not None and least > count:
        yield problem("secure_aggregation.least_survivors", f"{least} of {count} sites can never be reached")
    waits = values["deadlines"]
    if waits["expire_seconds"] <= waits["upload_seconds"] + waits["grace_seconds"]:
        yield problem("deadlines.expire_seconds", "must be longer than upload_seconds and grace_seconds together")
    if parse_timestamp(values["not_after"]) <= now:
        yield problem("not_after", "this day is over")
    for key, check in (("task", check_task), ("strategy", check_strategy), ("metrics", check_metrics)):
        try:
            values[key] = check(values[key])
        except MitralError as error:
            yield Problem(_line_of_detail(key, error.detail, given), key, error.detail)


def _line_of_detail(section: str, detail: str, given: dict[str, int]) -> int:
    """Return the line of the key that a check's message names ("tabular.features: ..."), or of the section."""
    named = detail.partition(":")[0].partition(".")[2]
    in_section = [line for path, line in given.items() if path.startswith(f"{section}.")]
    return given.get(f"{section}.{named}", min(in_section, default=1))


def _as_plan(values: JsonObject) -> JsonObject:
    return {"v": VERSION, "kind": "study", "dp": None, **values}


def _is_example(field: Field, value: object) -> bool:
    return isinstance(field.default, Required) and field.path != "not_after" and value == field.default.example


def _find(top: Section, path: str) -> Node | None:
    node: Node | None = top
    for part in path.split("."):
        node = node.entries.get(part) if isinstance(node, Section) else None
    return node


def _section_line(top: Section, path: str) -> int:
    node = _find(top, path) if path else None
    return node.line if isinstance(node, Section | Listing | Scalar) else 1


def _value(values: JsonObject, field: Field) -> object:
    found: Any = values
    for part in field.path.split("."):
        found = found[part]
    return found


def _put(values: JsonObject, path: str, value: object) -> None:
    *sections, name = path.split(".")
    inner = values
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[name] = value
