"""The strict base of every wire object and the field types they share (PROTOCOLS section 1, clause 3)."""

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from shared.canonical import JsonObject, canonical_bytes, parse_strict
from shared.clock import parse_timestamp
from shared.errors import MitralError, PeerFault
from shared.ids import check_id

MAX_INTEGER = 2**53 - 1
VERSION = "SA1"


def _valid_id(text: str) -> str:
    try:
        return check_id(text)
    except MitralError as error:
        raise ValueError(error.detail) from error


def _valid_timestamp(text: str) -> str:
    try:
        parse_timestamp(text)
    except MitralError as error:
        raise ValueError(error.detail) from error
    return text


def _valid_decimal(text: str) -> str:
    try:
        if not Decimal(text).is_finite() or len(text) > 40:
            raise InvalidOperation
    except InvalidOperation as error:
        raise ValueError(f"{text[:40]!r} is not a finite decimal number") from error
    return text


Id = Annotated[str, AfterValidator(_valid_id)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Binary = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]*$")]  # base64url without padding
Timestamp = Annotated[str, AfterValidator(_valid_timestamp)]
DecimalText = Annotated[str, AfterValidator(_valid_decimal)]  # fractions travel as text: no floats in signed objects
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Code = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]


class WireObject(BaseModel):
    """A frozen object of the protocol: unknown keys, missing keys and coerced types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Parse JSON bytes strictly.

        Raises:
            PeerFault: ``json_malformed`` or ``message_malformed`` (names the first wrong field).
        """
        return cls.check(parse_strict(raw))

    @classmethod
    def check(cls, value: JsonObject) -> Self:
        """Validate an already parsed object.

        Raises:
            PeerFault: ``message_malformed`` (names the first wrong field).
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "object"
            raise PeerFault("message_malformed", f"{cls.__name__}: {where}: {first['msg']}") from error

    def as_json(self) -> JsonObject:
        """Return the plain object that is hashed, signed or sent; every key is present."""
        dumped: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        return dumped

    def canonical(self) -> bytes:
        """Return the RFC 8785 bytes."""
        return canonical_bytes(self.as_json())


class SignedStatement(WireObject):
    """What every site-signed payload has: who, and its place in that site's chain (PROTOCOLS section 1, clause 6)."""

    site: Id
    seq: Annotated[int, Field(ge=1, le=MAX_INTEGER)]
    prev: Hash


def seconds_until(moment: str, now: datetime) -> float:
    """Return the seconds from `now` to a wire timestamp (negative when past)."""
    return (parse_timestamp(moment) - now).total_seconds()
