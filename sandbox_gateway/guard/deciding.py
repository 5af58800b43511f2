"""Decides about one call, before anything of it is sent: whose it is, and whether it stays in its servers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from aiohttp import web

from sandbox_core.client_endpoint import PRODUCTION
from sandbox_gateway.share import STRANGERS
from sandbox_gateway.tenants import Production, Tenant, present

from . import levels
from .answers import (
    invalid_body,
    missing_access,
    missing_permissions,
    unauthorized,
    unavailable,
    unknown_interaction,
    unknown_webhook,
)
from .common import Common
from .ids import JsonValue, Named, named_in, named_in_query, required
from .paths import instance_place
from .places import Places
from .ports import KnownTenants, Seen
from .rules import Matched

_PREFIX = "Bot "
_QUERY_FIELDS = 50
_CHANNEL_ROWS = "bulk_update_guild_channels"
_OF_OTHERS = "execute_github_compatible_webhook"
"""Its body is of another service's form; Discord makes a message of it."""
_CHANNEL_BY_TOKEN = frozenset({"update_webhook_by_token"})
"""Discord takes no `channel_id` there."""


@dataclass(slots=True)
class Call:
    """A call with what is known of it so far."""

    matched: Matched
    tenant: Tenant
    query: tuple[tuple[str, str], ...] = ()
    relied_on: set[str] = field(default_factory=set)
    """The guilds for whose sake it was let through."""

    @property
    def sandbox_id(self) -> UUID:
        """Whose share it has."""
        return self.tenant.sandbox_id

    @property
    def guild_id(self) -> str | None:
        """The guild in the path."""
        return self.matched.values.get("guild_id")

    def holds(self, guild_id: str | None) -> bool:
        """Return whether the guild is the sandbox's."""
        if guild_id is None or guild_id not in self.tenant.guild_ids:
            return False
        self.relied_on.add(guild_id)
        return True


class Decider:
    """Every method raises `Refusal`, what `Upstream.request` raises, and what tenants and `Seen` raise."""

    def __init__(self, tenants: KnownTenants, seen: Seen, places: Places, common: Common) -> None:
        self._tenants = tenants
        self._seen = seen
        self._places = places
        self._common = common

    async def tenant_by_token(self, request: web.Request) -> Tenant | Production | None:
        """Return whose token the request has; None for a request without one."""
        given = request.headers.getall("Authorization", [])
        if not given:
            return None
        if len(given) > 1 or not given[0].startswith(_PREFIX):
            raise unauthorized()
        tenant = await self._tenants.by_token(given[0].removeprefix(_PREFIX))
        if tenant is None:
            raise unauthorized()
        return tenant

    async def production_by_call(self, request: web.Request) -> tuple[Production, bool]:
        """Return production for a call to its own path, and whether the call has production's token.

        Without one it has a token in its path, or somebody's own of OAuth, as anybody may send to Discord.
        """
        production = self._tenants.production
        if production is None:
            raise unavailable("tenants_stale") if self._tenants.stale else unauthorized("no_production")
        if not any(given.startswith(_PREFIX) for given in request.headers.getall("Authorization", [])):
            return production, False
        if not isinstance(found := await self.tenant_by_token(request), Production):
            raise unauthorized()
        return found, True

    async def productions_interaction(self, matched: Matched | None) -> bool:
        """Return whether the path has the token of an interaction that production has seen."""
        values = {} if matched is None else matched.values
        token = values.get("interaction_token") or values.get("webhook_token")
        whose = await self._seen.whose("interaction", values.get("interaction_id"), token) if token else None
        return whose == PRODUCTION

    async def tenant_by_path(self, matched: Matched) -> Tenant | Production:
        """Return whose interaction, or whose webhook, the path is about."""
        if self._tenants.stale:
            raise unavailable("tenants_stale")
        if matched.rule.decision == "interaction":
            values = matched.values
            tenant = await self._seen_by("interaction_id", values["interaction_token"], matched)
            if tenant is None:
                raise unknown_interaction()
            return tenant
        token = matched.values["webhook_token"]
        tenant = await self._seen_by(None, token, matched)
        if tenant is None:
            guild_id = await self._places.guild_of_webhook(
                matched.values["webhook_id"], token, sandbox_id=STRANGERS
            )
            tenant = None if guild_id is None else self._tenants.by_guild(guild_id)
        if tenant is None:
            raise unknown_webhook()
        return tenant

    async def _seen_by(self, id_name: str | None, token: str, matched: Matched) -> Tenant | Production | None:
        entity_id = None if id_name is None else matched.values[id_name]
        sandbox_id = await self._seen.whose("interaction", entity_id, token)
        return None if sandbox_id is None else present(self._tenants, sandbox_id)

    async def place(self, call: Call) -> None:
        """Check the path: the rule's place, and whose application it names."""
        values = call.matched.values
        application_id = values.get("application_id")
        if application_id is not None:
            identity = await self._common.identity(sandbox_id=call.sandbox_id)
            if application_id != identity.application_id:
                raise missing_access("foreign_application")
        if call.guild_id is not None and not call.holds(call.guild_id):
            raise missing_access()
        if "channel_id" in values:
            await self._channel(call, values["channel_id"])
        await self._keep_the_bot(call, None)
        await self._looked_up(call, values)

    async def _looked_up(self, call: Call, values: dict[str, str]) -> None:
        decision, guild_id = call.matched.rule.decision, None
        if decision == "activity":
            guild_id, channel_id = instance_place(values["instance_id"])
            if call.holds(guild_id):
                await self._channel(call, channel_id)
        elif decision == "invite":
            guild_id = await self._places.guild_of_invite(values["code"], sandbox_id=call.sandbox_id)
        elif decision == "template":
            guild_id = await self._places.guild_of_template(values["code"], sandbox_id=call.sandbox_id)
        elif decision == "webhook":
            guild_id = await self._places.guild_of_webhook(
                values["webhook_id"], None, sandbox_id=call.sandbox_id
            )
        elif decision == "interaction":
            if not await self._has(call, values["interaction_id"], values["interaction_token"]):
                raise unknown_interaction()
            return
        elif decision == "webhook_token":
            await self._webhook_token(call, values)
            return
        else:
            return
        if not call.holds(guild_id):
            raise missing_access()

    async def _webhook_token(self, call: Call, values: dict[str, str]) -> None:
        webhook_id, token = values["webhook_id"], values["webhook_token"]
        if await self._has(call, None, token):
            identity = await self._common.identity(sandbox_id=call.sandbox_id)
            if webhook_id == identity.application_id:
                return
        guild_id = await self._places.guild_of_webhook(webhook_id, token, sandbox_id=call.sandbox_id)
        if not call.holds(guild_id):
            raise unknown_webhook()

    async def _has(self, call: Call, entity_id: str | None, token: str) -> bool:
        return await self._seen.has(call.tenant, "interaction", entity_id, token)

    async def _channel(self, call: Call, channel_id: str) -> None:
        if not call.holds(await self._places.guild_of_channel(channel_id, sandbox_id=call.sandbox_id)):
            raise missing_access()

    async def query(self, call: Call) -> None:
        """Read and check the query."""
        # Eris begins its queries with `?&`. What is sent is written anew, without the empty pieces.
        text = "&".join(filter(None, call.matched.target.query.split("&")))
        if not text:
            return
        try:
            pairs = parse_qsl(
                text,
                keep_blank_values=True,
                strict_parsing=True,
                errors="strict",
                max_num_fields=_QUERY_FIELDS,
            )
        except ValueError as error:
            raise invalid_body("the query can't be read", "query") from error
        call.query = tuple(pairs)
        await self._named(call, named_in_query(pairs))

    async def body(self, call: Call, body: JsonValue) -> None:
        """Check the body, or one field of a form."""
        operation = call.matched.rule.operation
        levels.check_fields(call.matched, body, call.tenant)
        levels.check_mentions(body)
        named = named_in(
            body, rows_are_channels=operation == _CHANNEL_ROWS, foreign_form=operation == _OF_OTHERS
        )
        await self._named(call, named)
        await self._keep_the_bot(call, body)
        if operation in _CHANNEL_BY_TOKEN and isinstance(body, dict) and "channel_id" in body:
            raise missing_permissions("a webhook's token moves no webhook", "channel_by_token")

    async def complete(self, call: Call, body: JsonValue) -> None:
        """Check what has to be in the body; None when there is none, or it comes behind files."""
        rule = call.matched.rule
        if rule.note and rule.decision in {"body", "channel"}:
            await self._channel(call, required(body, rule.note))

    async def _keep_the_bot(self, call: Call, body: JsonValue) -> None:
        if levels.takes_members_out(call.matched):
            identity = await self._common.identity(sandbox_id=call.sandbox_id)
            if levels.takes_out(call.matched, body, identity.user_id):
                raise missing_permissions("it takes the bot out of the server", "bot_itself")

    def still(self, call: Call) -> None:
        """Raise `Refusal` when the sandbox has become another, in what matters, while the call waited."""
        if self._tenants.stale:
            raise unavailable("tenants_stale")
        now = self._tenants.current(call.sandbox_id)
        if now is None or now.credentials != call.tenant.credentials:
            raise unauthorized("changed_meanwhile")
        if not call.relied_on <= now.guild_ids or not now.level.includes(call.tenant.level):
            raise missing_access("changed_meanwhile")
        call.tenant = now

    async def _named(self, call: Call, named: Named) -> None:
        if any(not call.holds(guild_id) for guild_id in named.guilds):
            raise missing_access()
        if call.guild_id is not None:
            await self._places.prepare(named.channels, call.guild_id, sandbox_id=call.sandbox_id)
        for channel_id in sorted(named.channels):
            await self._channel(call, channel_id)


def written(query: Sequence[tuple[str, str]]) -> str:
    """Return the query as it is sent: written anew from what was checked."""
    return urlencode(list(query))
