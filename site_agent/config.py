"""Settings: ``site.toml`` in the state directory, overridden by MITRAL_SITE_* variables."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.errors import InputError

FILE_NAME = "site.toml"
HostAndPort = Annotated[str, Field(pattern=r"^[^\s/]+:[0-9]{1,5}$")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseSettings):
    """Everything a hospital's administrator may set. Unknown keys are refused."""

    model_config = SettingsConfigDict(env_prefix="MITRAL_SITE_", extra="forbid", frozen=True)

    poll_seconds: Annotated[int, Field(ge=0, le=300)] = 25  # how long the coordinator may hold a poll open
    timeout_seconds: Seconds = 60  # of a request, beside the time a poll is held open
    proxy: str | None = None  # an HTTP proxy on the way out, for instance http://proxy.hospital.example:3128
    extra_ca_file: Path | None = None  # the hospital's own CA (PEM), so that a proxy which inspects TLS can be passed
    kek_file: Path | None = (
        None  # the key that seals secrets at rest; systemd's credential mitral-site.kek, else STATE/kek
    )
    threads: Annotated[int, Field(ge=0, le=256)] = 0  # of one training child, 0: as many as there are cores
    log_level: Literal["debug", "info", "warning", "error"] = "info"  # lines below it are not written
    log_file: Path | None = None  # JSON lines go here instead of standard error
    syslog: HostAndPort | None = (
        None  # the hospital's log server (TLS, usually port 6514): gets a copy of the site's log
    )
    syslog_ca_file: Path | None = None  # the CA of the syslog server (PEM); without it, those this machine trusts
    syslog_certificate_file: Path | None = None  # certificate and key (PEM) to show, if the syslog server asks for one

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, whose values come in as arguments."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def read_settings(state: Path) -> Settings:
    """Return the settings of a state directory; without a file everything has its default.

    Raises:
        InputError: ``settings_invalid`` with the key that is wrong.
    """
    file = state / FILE_NAME
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return Settings(**given)
    except (OSError, ValueError) as error:
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            detail = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        else:
            detail = str(error)
        raise InputError("settings_invalid", f"{file}: {detail}") from error
