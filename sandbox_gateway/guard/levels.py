"""Decides what the level of a sandbox, and the bot's own presence in its servers, leave of an operation."""

from __future__ import annotations

from sandbox_core.models import RestLevel
from sandbox_gateway.tenants import Tenant

from .answers import invalid_body, missing_permissions
from .ids import JsonValue
from .rules import Matched

_AGAINST_A_MEMBER = frozenset({"delete_guild_member", "ban_user_from_guild", "bulk_ban_users_from_guild"})
_PINGS = {"parse": frozenset({"roles", "users", "everyone"})}


def check_operation(matched: Matched, tenant: Tenant) -> None:
    """Raise `Refusal` when the sandbox's level is too low for the operation."""
    level = tenant.level
    if not level.includes(matched.rule.needs):
        why = f"its level is {level.value}, and this takes {matched.rule.needs.value}"
        raise missing_permissions(why, f"level_{level.value}")


def check_fields(matched: Matched, body: JsonValue, tenant: Tenant) -> None:
    """Raise `Refusal` when the body has a field that takes a higher level."""
    if tenant.level is RestLevel.FULL or not isinstance(body, dict):
        return
    fields = sorted(body.keys() & matched.rule.moderates)
    if fields:
        why = f"its level is {tenant.level.value}, and `{fields[0]}` takes full"
        raise missing_permissions(why, f"level_{tenant.level.value}")


def takes_members_out(matched: Matched) -> bool:
    """Return whether the operation kicks or bans somebody, who might be the bot itself."""
    return matched.rule.operation in _AGAINST_A_MEMBER


def takes_out(matched: Matched, body: JsonValue, bot_id: str) -> bool:
    """Return whether such an operation is against the bot itself."""
    many = body.get("user_ids", []) if isinstance(body, dict) else []
    named = [str(each) for each in many] if isinstance(many, list) else [str(many)]
    return bot_id in {matched.values.get("user_id"), *named}


def check_mentions(body: JsonValue) -> None:
    """Raise `Refusal` for an `allowed_mentions`, at any depth, that is not of Discord's form.

    What it is read as decides who is pinged, so it has to be readable in one way.
    """
    waiting: list[JsonValue] = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if value.get("allowed_mentions") is not None:
                _check_mentions(value["allowed_mentions"])
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _check_mentions(value: JsonValue) -> None:
    if not isinstance(value, dict) or not value.keys() <= {"parse", "roles", "users", "replied_user"}:
        raise invalid_body("`allowed_mentions` has another form", "allowed_mentions")
    for name in ("parse", "roles", "users"):
        words = value.get(name)
        if words is None:
            continue
        if not isinstance(words, list) or not all(_is_word(name, word) for word in words):
            raise invalid_body(f"`allowed_mentions.{name}` has another form", "allowed_mentions")


def _is_word(name: str, word: JsonValue) -> bool:
    if name in _PINGS:
        return word in _PINGS[name]
    return (isinstance(word, str) and word.isascii() and word.isdigit()) or (
        isinstance(word, int) and not isinstance(word, bool)
    )
