"""More attacks on the sandboxes' NATS server, which only tests may try: one could hurt a live server."""

from __future__ import annotations

from sandbox_core.isolation.attacks import denied, every
from sandbox_core.isolation.nats_attacks import NATS as SAFE

OTHERS = (
    *denied(
        "permissions violation for publish",
        ("production's event, to be stored", "PUB events.MESSAGE_CREATE x"),
        ("routes of the bot", "PUB sandboxes.EVENTS.routes {{}}"),
        ("a process of the bot", "PUB sandboxes.gateway.1.holders {{}}"),
        ("move the cluster's leader", "REQ $JS.API.META.LEADER.STEPDOWN"),
        ("remove a server", "REQ $JS.API.SERVER.REMOVE {{}}"),
        ("move an account's stream", "REQ $JS.API.ACCOUNT.STREAM.MOVE.S{other_slot}.SANDBOX {{}}"),
    ),
    *denied(
        "authorization violation",
        ("as who answers for logins", "LOGIN auth {password}"),
        ("as every sandbox", "LOGIN sandbox-* {password}"),
        ("in other letters", "LOGIN {own_user_large} {password}"),
        ("with more behind the name", "LOGIN {own_user}x {password}"),
        ("as the bot's table says", "LOGIN {own_user} {password_hash}"),
    ),
)
NATS = (*every(SAFE), *OTHERS)
