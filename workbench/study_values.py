"""From what was written under one key of a study file to the value of a plan, or to a problem that says what is off."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any

from shared.clock import timestamp
from shared.errors import MitralError
from shared.ids import check_id
from workbench.study_fields import Field, Kind
from workbench.yaml_lines import Listing, Node, Scalar, Section

_WHOLE = re.compile(r"[+-]?[0-9][0-9_]*")


class WrongValueError(Exception):
    """A value does not fit its key; `str` says why, `line` says where."""

    def __init__(self, text: str, line: int) -> None:
        """Remember both."""
        super().__init__(text)
        self.line = line


def convert(field: Field, node: Node) -> Any:  # noqa: ANN401 (the plan's JSON)
    """Return the plan's value of `field` as written at `node`; fractions become decimal text.

    Raises:
        WrongValueError: the type or the range is wrong.
    """
    return _CONVERTERS[field.kind](field, node)


def decimal_text(number: Decimal) -> str:
    """Return the one text of a number: 0.10, 1e-1 and .1 are all "0.1", so that equal studies have equal digests."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def end_of_day(day: date) -> str:
    """Return the wire timestamp of the last second of a day, UTC."""
    return timestamp(datetime.fromisoformat(f"{day}T00:00:00+00:00") + timedelta(days=1, seconds=-1))


def _scalar(field: Field, node: Node) -> Scalar:
    if not isinstance(node, Scalar):
        given = "a list" if isinstance(node, Listing) else "a section"
        raise WrongValueError(f"{given} stands here; expected {field.kind.value}", node.line)
    if node.tag == "null":
        raise WrongValueError(f"nothing stands here; expected {field.kind.value}", node.line)
    return node


def _text(field: Field, node: Node) -> str:
    scalar = _scalar(field, node)
    if scalar.tag == "bool":
        # YAML reads no, on, yes and off as truth values: Norway, and many a column.
        raise WrongValueError(f'YAML reads {scalar.text} as a truth value; write "{scalar.text}" in quotes', node.line)
    return scalar.text


def _bounded_text(field: Field, node: Node) -> str:
    text = _text(field, node).strip()
    low, high = field.bounds()
    if (low is not None and len(text) < low) or (high is not None and len(text) > high):
        raise WrongValueError(f"has {len(text)} characters; expected {low} to {high}", node.line)
    return text


def _id(field: Field, node: Node) -> str:
    try:
        return check_id(_text(field, node))
    except MitralError as error:
        raise WrongValueError(error.detail.removeprefix("id "), node.line) from error


def _number(field: Field, node: Node) -> Decimal:
    scalar = _scalar(field, node)
    try:
        number = Decimal(scalar.text)
    except InvalidOperation:
        number = Decimal("NaN")
    if scalar.tag in {"bool", "timestamp"} or not number.is_finite() or len(scalar.text) > 40:
        raise WrongValueError(f"{scalar.text[:40]!r} is not a number", node.line)
    return _in_range(field, number, node)


def _in_range(field: Field, number: Decimal, node: Node) -> Decimal:
    low, high = field.bounds()
    too_low = low is not None and (number < low or (field.above_low and number == low))
    if too_low or (high is not None and number > high):
        raise WrongValueError(f"{decimal_text(number)} is out of range; expected {field.range_text()}", node.line)
    return number


def _decimal(field: Field, node: Node) -> str:
    text = decimal_text(_number(field, node))
    if len(text) > 40:
        raise WrongValueError(f"{text[:20]}... has more than 40 digits", node.line)
    return text


def _integer(field: Field, node: Node) -> int:
    scalar = _scalar(field, node)
    if scalar.tag in {"bool", "timestamp"} or not _WHOLE.fullmatch(scalar.text) or len(scalar.text) > 20:
        raise WrongValueError(f"{scalar.text[:40]!r} is not a whole number", node.line)
    number = int(_in_range(field, Decimal(int(scalar.text)), node))
    if field.choices:
        _choice(field, node)
    return number


def _choice(field: Field, node: Node) -> str:
    text = _text(field, node)
    if field.choices and text not in field.choices:
        near = get_close_matches(text, field.choices, 1, 0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise WrongValueError(f"{text[:40]!r} is not one of {', '.join(field.choices)}{hint}", node.line)
    return text


def _date(field: Field, node: Node) -> str:
    text = _text(field, node)
    try:
        if len(text) == 10:
            return end_of_day(date.fromisoformat(text))
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return timestamp(moment)
    except ValueError as error:
        raise WrongValueError(f"{text[:40]!r} is not {field.kind.value}", node.line) from error


def _list_of(item: Callable[[Field, Node], Any], *, bounds_are_counts: bool) -> Callable[[Field, Node], list[Any]]:
    def convert_list(field: Field, node: Node) -> list[Any]:
        if not isinstance(node, Listing):
            raise WrongValueError(f"expected {field.kind.value}, such as [a, b]", node.line)
        values = [item(field, one) for one in node.items]
        if item is not _integer:
            again = next((value for index, value in enumerate(values) if value in values[:index]), None)
            if again is not None:
                raise WrongValueError(f"{again!r} stands twice", node.line)
        low, high = field.bounds()
        if bounds_are_counts and low is not None and high is not None and not low <= len(values) <= high:
            raise WrongValueError(f"has {len(values)} items; expected {low} to {high}", node.line)
        return values

    return convert_list


def _clips(field: Field, node: Node) -> dict[str, str]:
    if not isinstance(node, Section):
        raise WrongValueError(f"expected a section whose {field.kind.value}", node.line)
    return {name: _decimal(field, one) for name, one in node.entries.items()}


_CONVERTERS: dict[Kind, Callable[[Field, Node], Any]] = {
    Kind.ID: _id,
    Kind.IDS: _list_of(_id, bounds_are_counts=True),
    Kind.TEXT: _bounded_text,
    Kind.TEXTS: _list_of(_choice, bounds_are_counts=True),
    Kind.INTEGER: _integer,
    Kind.INTEGERS: _list_of(_integer, bounds_are_counts=False),
    Kind.DECIMAL: _decimal,
    Kind.CHOICE: _choice,
    Kind.DATE: _date,
    Kind.CLIPS: _clips,
}
