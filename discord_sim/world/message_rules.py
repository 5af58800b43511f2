"""Checks message bodies by Discord's rules, and completes them as Discord does.

Limits: developer documentation, "Create Message", "Embed Limits" and "Component Reference". As in the real
API, an invalid body gets 400 with code 50035, and an empty one with code 50006.
"""

from __future__ import annotations

from typing import Any

from discord_sim.errors import ApiError, invalid_form
from discord_sim.jsontypes import Json, JsonValue
from discord_sim.world.messages import COMPONENTS_V2, walk

CONTENT_LIMIT = 2000
EMBEDS_LIMIT = 10
EMBED_TEXT_LIMIT = 6000
EMBED_LIMITS = {"title": 256, "description": 4096}
FIELDS_LIMIT = 25
FIELD_LIMITS = {"name": 256, "value": 1024}
FOOTER_LIMIT = 2048
AUTHOR_LIMIT = 256
ROWS_LIMIT = 5
V2_COMPONENTS_LIMIT = 40
CUSTOM_ID_LIMIT = 100
LABEL_LIMIT = 80
SELECT_OPTIONS_LIMIT = 25
NONCE_LIMIT = 25
SELECTS = frozenset({3, 5, 6, 7, 8})


def check_message(body: Json, *, files: int, prefix: str = "") -> None:
    """Check a message body. Raises `ApiError` 400 with code 50035, or 50006 for an empty message."""
    content = body.get("content") or ""
    embeds = body.get("embeds") or []
    components = body.get("components") or []
    v2 = bool((body.get("flags") or 0) & COMPONENTS_V2)
    if v2 and (content or embeds):
        raise invalid_form(
            f"{prefix}content",
            "MESSAGE_CANNOT_USE_LEGACY_FIELDS_WITH_COMPONENTS_V2",
            "The content and embeds fields cannot be used with MessageFlags.IS_COMPONENTS_V2",
        )
    if not (content or embeds or components or files or body.get("sticker_ids") or body.get("poll")):
        raise ApiError(400, 50006, "Cannot send an empty message")
    _nonce(body.get("nonce"), f"{prefix}nonce")
    check_parts(body, prefix=prefix)


def check_parts(body: Json, *, prefix: str = "") -> None:
    """Check the limits of the fields in the body; for an edit, which may leave fields out."""
    _length(body.get("content"), CONTENT_LIMIT, f"{prefix}content")
    _embeds(body.get("embeds") or [], prefix)
    v2 = bool((body.get("flags") or 0) & COMPONENTS_V2)
    _components(body.get("components") or [], prefix, v2=v2)


def complete_embeds(embeds: JsonValue) -> list[Json]:
    """Return the embeds as Discord does: with `type`, and `inline` in every field."""
    done: list[Json] = []
    for embed in embeds or ():
        full = {"type": "rich", **{k: v for k, v in embed.items() if v is not None}}
        full["type"] = "rich"
        if "fields" in full:
            full["fields"] = [{"inline": False, **f} for f in full["fields"]]
        done.append(full)
    return done


def complete_components(components: JsonValue) -> list[Json]:
    """Return the components as Discord does: numbered from 1, with their defaults."""
    done: list[Json] = [_copy(c) for c in components or ()]
    taken = {c["id"] for c in walk(done) if c.get("id")}
    number = 0
    for component in walk(done):
        if not component.get("id"):
            number += 1
            while number in taken:
                number += 1
            component["id"] = number
        if component.get("type") in SELECTS:
            component.setdefault("min_values", 1)
            component.setdefault("max_values", 1)
    return done


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_copy(v) for v in value]
    return value


def _nonce(value: JsonValue, path: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise invalid_form(path, "NONCE_TYPE_INVALID_TYPE", "This field must be a string or integer.")
    if len(str(value)) > NONCE_LIMIT:
        raise invalid_form(path, "NONCE_TYPE_TOO_LONG", f"Must be {NONCE_LIMIT} or fewer characters long.")


def _length(value: JsonValue, limit: int, path: str, *, least: int = 0) -> int:
    if value is None:
        return 0
    if not isinstance(value, str):
        raise invalid_form(path, "STRING_TYPE_CONVERT", "Could not interpret as string.")
    if not least <= len(value) <= limit:
        raise invalid_form(path, "BASE_TYPE_BAD_LENGTH", f"Must be between {least} and {limit} in length.")
    return len(value)


def _embeds(embeds: list[Json], prefix: str) -> None:
    if len(embeds) > EMBEDS_LIMIT:
        raise invalid_form(
            f"{prefix}embeds", "BASE_TYPE_BAD_LENGTH", f"Must be {EMBEDS_LIMIT} or fewer in length."
        )
    total = 0
    for number, embed in enumerate(embeds):
        path = f"{prefix}embeds.{number}"
        for key, limit in EMBED_LIMITS.items():
            total += _length(embed.get(key), limit, f"{path}.{key}")
        total += _length((embed.get("footer") or {}).get("text"), FOOTER_LIMIT, f"{path}.footer.text")
        total += _length((embed.get("author") or {}).get("name"), AUTHOR_LIMIT, f"{path}.author.name")
        fields = embed.get("fields") or []
        if len(fields) > FIELDS_LIMIT:
            raise invalid_form(
                f"{path}.fields", "BASE_TYPE_MAX_LENGTH", f"Must be {FIELDS_LIMIT} or fewer in length."
            )
        for index, entry in enumerate(fields):
            for key, limit in FIELD_LIMITS.items():
                where = f"{path}.fields.{index}.{key}"
                if not entry.get(key):
                    raise invalid_form(where, "BASE_TYPE_REQUIRED", "This field is required")
                total += _length(entry[key], limit, where)
    if total > EMBED_TEXT_LIMIT:
        raise invalid_form(
            f"{prefix}embeds",
            "MAX_EMBED_SIZE_EXCEEDED",
            f"Embed size exceeds maximum size of {EMBED_TEXT_LIMIT}",
        )


def _components(components: list[Json], prefix: str, *, v2: bool) -> None:
    path = f"{prefix}components"
    if not v2 and len(components) > ROWS_LIMIT:
        raise invalid_form(path, "BASE_TYPE_BAD_LENGTH", "Must be between 0 and 5 in length.")
    everything = list(walk(components))
    if v2 and len(everything) > V2_COMPONENTS_LIMIT:
        raise invalid_form(path, "BASE_TYPE_BAD_LENGTH", "Must be 40 or fewer in length.")
    seen: set[str] = set()
    for component in everything:
        kind = component.get("type")
        if kind == 1:
            inner = component.get("components") or []
            if not 1 <= len(inner) <= 5:
                raise invalid_form(path, "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 5 in length.")
        if kind == 2:
            _length(component.get("label"), LABEL_LIMIT, f"{path}.label")
        if kind == 3:
            options = component.get("options") or []
            if not 1 <= len(options) <= SELECT_OPTIONS_LIMIT:
                raise invalid_form(path, "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 25 in length.")
        custom_id = component.get("custom_id")
        if custom_id is None:
            continue
        _length(custom_id, CUSTOM_ID_LIMIT, f"{path}.custom_id", least=1)
        if custom_id in seen:
            raise invalid_form(
                path, "COMPONENT_CUSTOM_ID_DUPLICATED", "Component custom id cannot be duplicated"
            )
        seen.add(custom_id)
