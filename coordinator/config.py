"""Settings: ``coordinator.toml`` in the state directory, overridden by MITRAL_COORDINATOR_* variables."""

import json
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.errors import InputError

FILE_NAME = "coordinator.toml"
Seconds = Annotated[float, Field(gt=0, le=10**7)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """Everything an administrator may set. Unknown keys are refused."""

    model_config = SettingsConfigDict(env_prefix="MITRAL_COORDINATOR_", extra="forbid", frozen=True)

    federation: str  # the federation's id; it never changes
    names: Annotated[
        list[str], Field(min_length=1)
    ]  # DNS names and IP addresses agents use; the first goes into invitations
    host: str = "127.0.0.1"  # the address to listen on
    agent_port: Port = 9092  # where agents connect
    operator_port: Port = 8443  # where operators connect
    public_agent_url: str | None = None  # what invitations say, when a proxy or another port stands in front
    public_operator_url: str | None = None  # what access files say, when a proxy or another port stands in front
    online_seconds: Seconds = 90  # a site heard of so recently counts as online
    gather_seconds: Seconds = 5  # after a start or a disconnect, so long a missing member is waited for
    poll_seconds: Seconds = 25  # the longest wait of one poll
    checkpoint_seconds: Seconds = 5  # how often the log's head is signed while entries are pending
    confirm_heads: Annotated[int, Field(ge=0, le=200)] | None = (
        None  # witnesses that show their last heads before the log goes on after a start; not given: all it takes
    )
    invitation_hours: Annotated[int, Field(ge=1, le=24 * 90)] = 72  # how long an invitation is valid
    certificate_days: Annotated[int, Field(ge=1, le=90)] = 7  # how long a site's certificate is valid
    server_certificate_days: Annotated[int, Field(ge=1, le=398)] = (
        90  # how long the coordinator's own is; renewed at start
    )
    session_idle_minutes: Annotated[int, Field(ge=1, le=24 * 60)] = 30  # a session that rests so long ends
    session_hours: Annotated[int, Field(ge=1, le=24 * 7)] = 12  # a session ends after so long in any case
    oidc_issuer: str | None = None  # the identity provider through which operators may sign in; https
    oidc_client_id: str | None = None  # the coordinator's name there
    oidc_client_secret_file: Path | None = None  # a file with the coordinator's secret there
    oidc_ca_file: Path | None = (
        None  # PEM certificates that the provider's are checked against; the system's by default
    )
    oidc_acr: str | None = None  # the strength of login that the provider has to vouch for, as it names it
    threads: Annotated[int, Field(ge=0, le=256)] = 0  # workers of the aggregation, 0: one per core
    max_blob_bytes: Annotated[int, Field(ge=1)] = 2**31  # the largest initial model a researcher may upload

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (pydantic-settings' signature)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, whose values come in as arguments."""
        return env_settings, init_settings


def read_settings(state: Path) -> Settings:
    """Return the settings of a state directory.

    Raises:
        InputError: ``state_missing`` when it was never initialised, ``settings_invalid`` with the key that is wrong.
    """
    path = state / FILE_NAME
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("state_missing", f"{path} does not exist") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError("settings_invalid", f"{path}: {error}") from error
    return check_settings(path, **values)


def check_settings(source: Path, **values: object) -> Settings:
    """Return validated settings.

    Raises:
        InputError: ``settings_invalid`` with the key that is wrong.
    """
    try:
        return Settings(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError("settings_invalid", f"{source}: {where}: {first['msg']}") from error


def write_settings(state: Path, settings: Settings) -> None:
    """Write the file that `init` leaves behind; JSON strings and lists are TOML too."""
    chosen = settings.model_dump(mode="json", include={"federation", "names", "host", "agent_port", "operator_port"})
    lines = ["# Settings of the coordinator; docs/reference/settings.md explains every key.\n"]
    lines += [f"{name} = {json.dumps(value)}\n" for name, value in chosen.items()]
    (state / FILE_NAME).write_text("".join(lines), encoding="utf-8")
