"""The one place from which the coordinator dials: its operators' identity provider, never a site."""

import ssl
from pathlib import Path
from typing import Any

import httpx

from shared.canonical import JsonObject
from shared.errors import Unavailable

_TIMEOUT = httpx.Timeout(10, connect=5)
_LONGEST_ANSWER = 2**20


def get_json(url: str, ca_file: Path | None) -> JsonObject:
    """Return what a provider publishes.

    Raises:
        Unavailable: ``oidc_provider``.
    """
    return _ask("GET", url, ca_file)


def post_form(url: str, form: dict[str, str], credentials: tuple[str, str], ca_file: Path | None) -> JsonObject:
    """Send a form under the client's credentials and return the answer.

    Raises:
        Unavailable: ``oidc_provider``.
    """
    return _ask("POST", url, ca_file, data=form, auth=credentials)


def _ask(method: str, url: str, ca_file: Path | None, **more: Any) -> JsonObject:  # noqa: ANN401 (httpx)
    try:
        context = ssl.create_default_context(cafile=ca_file)
        with httpx.Client(verify=context, timeout=_TIMEOUT, follow_redirects=False) as client:
            answer = client.request(method, url, headers={"Accept": "application/json"}, **more)
        found = answer.json() if answer.is_success and len(answer.content) <= _LONGEST_ANSWER else None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise Unavailable("oidc_provider", f"{httpx.URL(url).host}: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise Unavailable("oidc_provider", f"{httpx.URL(url).host}: status {answer.status_code}, or not an object")
    return found
