"""Discord's own description of its REST API, as a judge of requests and answers.

The file is looked for at ``DISCORD_OPENAPI``, then beside the checkout at
``../shared/data/discord-openapi.json``; it can be had from the repository
``discord/discord-api-spec``.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from discord_sim import RecordedRequest

ROOT = Path(__file__).resolve().parents[2]
BESIDE = ROOT.parent / "shared" / "data" / "discord-openapi.json"
URN = "urn:discord"


@dataclass(frozen=True)
class Allowed:
    """A difference from the description that is right, and why."""

    route: str
    contains: str
    reason: str


ALLOWED: tuple[Allowed, ...] = ()
"""Nothing at present: add a difference only with its reason."""


def spec_path() -> Path | None:
    """Where the description is, or None."""
    named = os.environ.get("DISCORD_OPENAPI")
    path = Path(named) if named else BESIDE
    return path if path.is_file() else None


class OpenApi:
    """Validates recorded requests and their answers."""

    def __init__(self, path: Path) -> None:
        self._spec: dict[str, Any] = json.loads(path.read_text())
        resource = Resource.from_contents(self._spec, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(URN, resource)

    def problems(self, record: RecordedRequest) -> list[str]:
        """What is wrong with a request's body and with its answer."""
        name = f"{record.method} {record.route or record.path}"
        operation = self._operation(record)
        if operation is None:
            return [f"{name}: not in the description"]
        found: list[str] = []
        if record.status < 400:
            found += self._request(name, record)
            found += self._answer(name, record)
        return [p for p in found if not any(a.route in p and a.contains in p for a in ALLOWED)]

    def _operation(self, record: RecordedRequest) -> dict[str, Any] | None:
        path: dict[str, Any] = self._spec["paths"].get(record.route, {})
        operation: dict[str, Any] | None = path.get(record.method.lower())
        return operation

    def _request(self, name: str, record: RecordedRequest) -> list[str]:
        operation = self._operation(record) or {}
        described = "requestBody" in operation
        if not described or record.body is None:
            return (
                []
                if described == (record.body is not None) or not _required(operation)
                else [f"{name}: body missing"]
            )
        pointer = self._pointer(record, "requestBody")
        return self._check(f"{name} request", with_text_ids(record.body), pointer)

    def _answer(self, name: str, record: RecordedRequest) -> list[str]:
        operation = self._operation(record) or {}
        described = operation["responses"].get(str(record.status))
        if described is None:
            return [f"{name}: status {record.status} is not described"]
        if "content" not in described:
            return [] if record.response is None else [f"{name}: {record.status} has no body"]
        pointer = self._pointer(record, f"responses/{record.status}")
        return self._check(f"{name} answer", record.response, pointer)

    def _pointer(self, record: RecordedRequest, part: str) -> str:
        route = (record.route or "").replace("~", "~0").replace("/", "~1")
        method = record.method.lower()
        return f"{URN}#/paths/{route}/{method}/{part}/content/application~1json/schema"

    def _check(self, name: str, value: Any, pointer: str) -> list[str]:
        validator = Draft202012Validator({"$ref": pointer}, registry=self._registry)
        return [f"{name}: {_explain(error)}" for error in validator.iter_errors(value)]


def with_text_ids(value: Any, key: str = "") -> Any:
    """A request body with its snowflakes as text.

    discord.py sends them as numbers. Discord accepts that and always has, but
    its description only knows text. A component's ``id`` is no snowflake and
    stays a number.
    """
    if isinstance(value, dict):
        return {
            k: str(v)
            if isinstance(v, int) and (k.endswith("_id") or (k == "id" and key == "attachments"))
            else with_text_ids(v, k)
            for k, v in value.items()
        }
    return [with_text_ids(v, key) for v in value] if isinstance(value, list) else value


def _required(operation: dict[str, Any]) -> bool:
    return bool(operation.get("requestBody", {}).get("required"))


def _explain(error: ValidationError) -> str:
    """The most telling error below a failed alternative, with its place."""
    deepest = error
    while deepest.context:
        inner = best_match(deepest.context)
        if inner is None:
            break
        deepest = inner
    return f"{deepest.json_path}: {deepest.message[:300]}"


@cache
def load(path: Path) -> OpenApi:
    """The description, read once."""
    return OpenApi(path)
