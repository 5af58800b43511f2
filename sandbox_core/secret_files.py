"""Reads secrets from files that `_FILE` variables name, as a source of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource


class SettingsError(Exception):
    """The settings are invalid. `problems` has one sentence per variable, without secrets."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class SecretFiles(PydanticBaseSettingsSource):
    """Reads a secret from the file in the variable with its name and `_FILE`.

    Containers get secrets in this way: the value itself is never in the environment.
    """

    def __init__(self, settings_cls: type[BaseSettings], *named_in: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._named_in = [source for source in named_in if isinstance(source, EnvSettingsSource)]

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the content of the secret's file, or None when no variable names one.

        Raises `SettingsError` when the file can't be read, or when the secret is also given directly: then it
        is unknown which one is meant, and the wrong one may belong to another installation.
        """
        variable = f"{field_name}_file"
        path = self._given(variable)
        if path is None or not is_secret(field):
            return None, field_name, False
        if self._given(field_name) is not None:
            names = f"{field_name.upper()} and {variable.upper()}"
            raise SettingsError([f"{names} are both set: leave one of them out, or empty."])
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise SettingsError([f"{variable.upper()} names a file that can't be read: {reason}."]) from None

    def _given(self, variable: str) -> str | None:
        return next((found for source in self._named_in if (found := source.env_vars.get(variable))), None)

    def __call__(self) -> dict[str, Any]:
        """Return all secrets from files. Raises `SettingsError` with all problems."""
        found: dict[str, Any] = {}
        problems: list[str] = []
        overridden = self.settings_sources_data.get("InitSettingsSource", {})
        for name, field in self.settings_cls.model_fields.items():
            if name in overridden:
                continue
            try:
                found[name] = self.get_field_value(field, name)[0]
            except SettingsError as error:
                problems += error.problems
        if problems:
            raise SettingsError(problems)
        return {name: value for name, value in found.items() if value}


def is_secret(field: FieldInfo) -> bool:
    return field.annotation is SecretStr or SecretStr in get_args(field.annotation)
