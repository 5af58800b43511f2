"""Where settings come from, and the lines that a person reads where one is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from .addresses import AddressError
from .secret_files import SecretFiles, SettingsError
from .setting_values import TAKES, cant_be_used


class Sources(BaseSettings):
    """Where settings come from."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources by priority: overrides, environment, `.env`, the files in `_FILE` variables."""
        files = SecretFiles(settings_cls, env_settings, dotenv_settings)
        return init_settings, env_settings, dotenv_settings, files


_AnySettings = TypeVar("_AnySettings", bound=Sources)


def read(kind: type[_AnySettings], overrides: Mapping[str, Any]) -> _AnySettings:
    """Read the settings of a kind. Raises `SettingsError` with one line per problem."""
    try:
        return kind(**overrides)
    except ValidationError as error:
        # Built only from locations and types: pydantic's text repeats the input, which may be a secret.
        raise SettingsError(_problems(error)) from None
    except UnicodeDecodeError:
        raise SettingsError([".env can't be read: it is not UTF-8 text."]) from None


def _problems(error: ValidationError) -> list[str]:
    lines: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_input=False):
        # An error of `_together` has no location: the last word of its message is the variable's name.
        where = detail["loc"][0] if detail["loc"] else detail["msg"].rsplit(" ", 1)[-1]
        variable = str(where).upper()
        cause = detail.get("ctx", {}).get("error")
        if detail["type"] == "missing":
            line = f"{variable} is not set: it takes {TAKES[variable]}."
        else:
            line = cant_be_used(variable, cause if isinstance(cause, AddressError) else None)
        lines.setdefault(variable, line)
    return list(lines.values())
