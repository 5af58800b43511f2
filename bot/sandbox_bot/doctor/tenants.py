"""Checks the sandboxes' own servers: would each sandbox get logins there, and is it kept apart?"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import uuid4

from sandbox_core.bootstrap import Core
from sandbox_core.dependencies import Question
from sandbox_core.errors import IsolationImpossible, SandboxError
from sandbox_core.hindrance import hindrance
from sandbox_core.models import Sandbox, SandboxStatus, short_id
from sandbox_core.namespaces import Namespace
from sandbox_core.nats.tenant.configuration import TenantLimits
from sandbox_core.settings import Settings
from sandbox_core.subjects import schema_name, slot_account
from sandbox_core.tenant_nats import TenantNats

from .findings import Look

POSTGRES, REDIS = "PostgreSQL (sandboxes)", "Redis (sandboxes)"


def look_at_isolation(settings: Settings) -> Look:
    """Look how new sandboxes are kept apart, and whether the settings name what that needs."""
    look = Look("Sandboxes", "")
    if not settings.enforced:
        look.note("they keep apart by convention (SANDBOX_ISOLATION)")
    elif (lacking := hindrance(settings)) is not None:
        look.failed(f"none can be made: {lacking.problem}", lacking.mend)
    else:
        look.ok("the servers keep them apart (SANDBOX_ISOLATION=enforced)")
    return look


async def look_at_tenants(
    core: Core, look: Look, namespace: Namespace, question: Question, clock: Callable[[], datetime]
) -> None:
    """Ask the server, then make and remove a part with its logins, as `create` and `destroy` do."""
    began = time.perf_counter()
    await question()
    look.ok(f"it answers, in {(time.perf_counter() - began) * 1000:.0f} ms")
    credentials = namespace.credentials
    if not core.settings.enforced or credentials is None:
        return
    try:
        await credentials.require()
    except IsolationImpossible as error:
        look.failed(error.problem, error.mend)
        return
    await _trial(core, look, namespace, clock())
    if namespace.store == "NATS" and core.tenants.nats is not None:
        await _compare_accounts(core.settings, look, core.tenants.nats)
    if namespace.store == "PostgreSQL" and _shared(core):
        look.note(
            "it is the server of the bot's own database: a sandbox that fills its disk, its table of locks "
            "or its processors slows the bot",
            "For more than a team that trusts each other, SANDBOX_DATABASE_URL names a server of its own.",
        )


async def _trial(core: Core, look: Look, namespace: Namespace, now: datetime) -> None:
    sandbox_id, key = uuid4(), core.settings.credentials_key
    assert key is not None  # noqa: S101 (without it there are no credentials to try)
    trial = Sandbox(
        id=sandbox_id,
        name="doctor",
        owner="doctor",
        status=SandboxStatus.CREATING,
        schema_name=schema_name(short_id(sandbox_id)),
        created_at=now,
        # If its removal fails, nobody can use the login.
        expires_at=now - timedelta(days=1),
        generation=1,
        key_id=key.fingerprint,
    )
    try:
        await namespace.provision(trial)
    except SandboxError as error:
        look.failed(
            f"a trial's part and login can't be made: {error}", "Fix the reason; then run doctor again."
        )
    else:
        look.ok("a trial's part and login were made")
    await namespace.drop(trial)


async def _compare_accounts(settings: Settings, look: Look, nats: TenantNats) -> None:
    """Compare the accounts' limits with the settings: the server's configuration may be of older ones.

    The server tells those of JetStream, and not those of connections and subscriptions.
    """
    limits = TenantLimits.of(settings, replicas=settings.sandbox_nats_replicas)
    wanted = {
        "bytes of memory (SANDBOX_STREAM_MB)": limits.account_memory,
        "consumers (SANDBOX_STREAM_CONSUMERS)": limits.consumers,
        "unacknowledged events of a consumer": limits.unacknowledged,
        "streams": limits.streams,
    }
    others: dict[str, list[str]] = {}
    for slot in sorted(await nats.servers.slots()):
        has = (await nats.streams.account(slot)).limits
        found = (has.max_memory, has.max_consumers, has.max_ack_pending, has.max_streams)
        unlike = [
            f"{'any number of' if there < 0 else f'{there:,}'} {what} and not {most:,}"
            for (what, most), there in zip(wanted.items(), found, strict=True)
            if there != most
        ]
        if unlike:
            others.setdefault("; ".join(unlike), []).append(slot_account(slot))
    for problem, accounts in others.items():
        more = f" and {len(accounts) - 1} more" if len(accounts) > 1 else ""
        look.failed(
            f"the account {accounts[0]}{more} may have {problem}, as the settings say",
            "Print its configuration again with `sandboxctl tenant-nats`, and have every server read it.",
        )
    if not others:
        look.ok("its accounts have the limits of the settings")


def _shared(core: Core) -> bool:
    tenants = core.settings.tenant_database
    return tenants is not None and tenants.endpoints == core.settings.database.endpoints
