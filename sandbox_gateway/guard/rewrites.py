"""The operations whose question or answer is another for a sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from sandbox_gateway.tenants import Tenant
from sandbox_gateway.upstream import Upstream

from .answers import invalid_body, missing_access, missing_permissions, unavailable
from .ids import Json

_PAGE = 200
Query = Sequence[tuple[str, str]]

_OF_ACCOUNTS = frozenset({"approximate_user_authorization_count", "approximate_user_install_count"})


def application(found: Any, tenant: Tenant) -> Any:
    """Return the application as the sandbox sees it: in its own servers, and in nobody's account."""
    if not isinstance(found, dict):
        return found
    # hikari insists on the numbers.
    kept = {name: 0 if name in _OF_ACCOUNTS else value for name, value in found.items()}
    if "approximate_guild_count" in kept:
        kept["approximate_guild_count"] = len(tenant.guild_ids)
    if kept.get("guild_id") not in {None, *tenant.guild_ids}:
        kept.pop("guild_id", None)
        kept.pop("guild", None)
    return kept


def entitlements(query: Query, tenant: Tenant) -> str:
    """Return the query, which has to name one server of the sandbox: without one Discord answers of all.

    A sandbox of one server need not name it.
    """
    named = [value for name, value in query if name == "guild_id"]
    if len(named) > 1:
        raise invalid_body("guild_id stands there twice", "query")
    if not named:
        if len(tenant.guild_ids) != 1:
            raise missing_permissions("entitlements take the query guild_id", "no_guild_id")
        return urlencode([*query, ("guild_id", next(iter(tenant.guild_ids)))])
    if named[0] not in tenant.guild_ids:
        raise missing_access()
    return urlencode(list(query))


async def guilds(upstream: Upstream, query: Query, tenant: Tenant) -> list[Json]:
    """Return the page of the sandbox's guilds that the query asks for, as Discord describes them.

    The bot may be in thousands. Each question begins at the next guild of the sandbox, so that there are
    never more questions than the sandbox has guilds.
    """
    options = dict(query)
    chosen = _page(sorted(tenant.guild_ids, key=int), options)
    counts = [("with_counts", "true")] if options.get("with_counts", "").lower() in {"true", "1"} else []
    found: dict[str, Json] = {}
    left = list(chosen)
    while left:
        asked = [("after", str(int(left[0]) - 1)), ("limit", str(_PAGE)), *counts]
        answer = await upstream.request(
            "GET", "/users/@me/guilds", sandbox_id=tenant.sandbox_id, query=urlencode(asked)
        )
        page = answer.json()
        if answer.status != 200 or not isinstance(page, list):
            raise unavailable("guilds_not_told")
        # Discord's order is that of the ids; everything up to the last one is answered.
        last = max((int(each["id"]) for each in page), default=0) if len(page) >= _PAGE else None
        found |= {each["id"]: each for each in page if each["id"] in tenant.guild_ids}
        left = [] if last is None else [each for each in left if int(each) > last]
    return [found[guild_id] for guild_id in chosen if guild_id in found]


def _page(guild_ids: list[str], options: dict[str, str]) -> list[str]:
    try:
        before, after = int(options.get("before", 0)), int(options.get("after", 0))
        limit = int(options.get("limit", _PAGE))
    except ValueError as error:
        raise invalid_body("the query is no number", "query") from error
    if not 1 <= limit <= _PAGE:
        raise invalid_body(f"limit is not 1 to {_PAGE}", "query")
    within = [each for each in guild_ids if int(each) > after and (not before or int(each) < before)]
    return within[-limit:] if before and not after else within[:limit]
