"""One request as handlers see it, and the answers they give."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from coordinator.app import Coordinator
from coordinator.operators import Principal
from coordinator.sites import SitePrincipal
from shared.canonical import JsonObject, parse_strict
from shared.errors import InputError, Misuse
from shared.ids import check_id


@dataclass(slots=True)
class Call:
    """A request whose sender is known. `body` is there when the route does not stream."""

    coordinator: Coordinator
    request: Request
    site_principal: SitePrincipal | None = None
    operator_principal: Principal | None = None
    body: bytes = b""

    @property
    def address(self) -> str:
        """Return the other end's address; behind a proxy it is the proxy's."""
        return self.request.client.host if self.request.client else ""

    @property
    def path(self) -> Mapping[str, str]:
        """Return the path parameters."""
        return self.request.path_params

    @property
    def site(self) -> SitePrincipal:
        """Return the site that asks; only agent routes have one."""
        if self.site_principal is None:
            raise Misuse("no_principal", "this route has no site")
        return self.site_principal

    @property
    def operator(self) -> Principal:
        """Return the operator who asks; only operator routes have one."""
        if self.operator_principal is None:
            raise Misuse("no_principal", "this route has no operator")
        return self.operator_principal

    def id(self, name: str) -> str:
        """Return a path parameter that is an id.

        Raises:
            InputError: ``id_malformed``.
        """
        return check_id(self.path[name], name)

    def number(self, name: str, highest: int = 2**31 - 1) -> int:
        """Return a path parameter that is a plain decimal number.

        Raises:
            InputError: ``number_malformed``.
        """
        text = self.path[name]
        if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > highest:
            raise InputError("number_malformed", f"{name} {text[:40]!r} is not a number up to {highest}")
        return int(text)

    def query(self, name: str, default: str = "") -> str:
        """Return a query parameter."""
        return self.request.query_params.get(name, default)

    def wait_seconds(self) -> float:
        """Return how long a long poll may take: what is asked for, at most what the settings allow.

        Raises:
            InputError: ``number_malformed``.
        """
        text = self.query("wait", "0")
        try:
            seconds = float(text)
        except ValueError:
            raise InputError("number_malformed", f"wait {text[:40]!r} is not a number of seconds") from None
        if not 0 <= seconds <= 3600:
            raise InputError("number_malformed", "wait lies between 0 and 3600 seconds")
        return min(seconds, self.coordinator.settings.poll_seconds)

    def json(self, **fields: type) -> JsonObject:
        """Return the body as an object that has only these fields, each absent (None) or of its type.

        Raises:
            PeerFault: ``json_malformed``.
            InputError: ``field_unknown``, ``field_invalid``.
        """
        found = parse_strict(self.body) if self.body else {}
        unknown = sorted(set(found) - set(fields))
        if unknown:
            raise InputError("field_unknown", f"{unknown[0]!r} is none of {', '.join(sorted(fields))}")
        for name, kind in fields.items():
            value = found.get(name)
            if value is not None and type(value) is not kind:
                raise InputError("field_invalid", f"{name} must be of type {kind.__name__}")
        return {name: found.get(name) for name in fields}

    def required(self, values: JsonObject, name: str) -> Any:  # noqa: ANN401 (JSON)
        """Return a field that must be there.

        Raises:
            InputError: ``field_invalid``.
        """
        if values.get(name) is None:
            raise InputError("field_invalid", f"{name} is missing")
        return values[name]


class JsonAnswer(Response):
    """A JSON answer, compact."""

    media_type = "application/json"

    def __init__(self, content: JsonObject, status_code: int = 200) -> None:
        """Render `content`."""
        super().__init__(json.dumps(content, separators=(",", ":")).encode(), status_code)
