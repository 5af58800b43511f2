"""Attacks on the sandboxes' NATS server with a sandbox's own login, none of which could hurt a live server.

Each line is `SUB subject`, `PUB subject words`, `REQ subject words` or `LOGIN user password`. A word
`>subject` of a line is the reply subject, `Name=value` a header, and the rest is the payload. `{own}` and
`{other}` are the two prefixes, `{slot}` and `{other_slot}` the numbers, `{production}` is production's prefix
and `{stream}` its stream. No server has the id `NX`.
"""

from __future__ import annotations

import json

from sandbox_core.subjects import SLOT_STREAM

from .attacks import Table, denied, nothing, possible


def _consumer(name: str, *, of: str = "{own}events.*", api: str = "", **config: str | int | list[str]) -> str:
    """The line that makes a durable consumer with the filter `of`; `api` is the subject of another way."""
    parts = {"durable_name": name, "name": name, "ack_policy": "none", "filter_subject": of, **config}
    inner = ",".join(f'"{key}":{json.dumps(value)}' for key, value in parts.items() if value)
    # Doubled, because `str.format_map` fills in the names of the stage.
    request = f'{{{{"stream_name":"{SLOT_STREAM}","config":{{{{{inner}}}}}}}}}'
    return f"REQ $JS.API.CONSUMER.{api or f'CREATE.SANDBOX.{name}.{of}'} {request}"


LISTENING = denied(
    "permissions violation for subscription",
    ("listen to everything", "SUB >"),
    ("listen to all of one token", "SUB *"),
    ("listen to all of two tokens", "SUB *.>"),
    ("listen to all sandboxes", "SUB sandbox.>"),
    ("listen to all sandboxes' events", "SUB sandbox.*.events.>"),
    ("listen to the neighbour", "SUB {other}>"),
    ("listen to one event of the neighbour", "SUB {other}events.MESSAGE_CREATE"),
    ("listen to the neighbour's dead letters", "SUB {other}events.dead_letter.>"),
    ("listen to production", "SUB {production}.>"),
    ("listen to the bot's processes", "SUB sandboxes.>"),
    ("listen to what the bot publishes", "SUB slot.>"),
    ("listen to what the bot publishes to the neighbour", "SUB slot.{other_slot}.*.events.>"),
    ("listen to the system", "SUB $SYS.>"),
    ("listen to logins", "SUB $SYS.REQ.USER.AUTH"),
    ("listen to connections of an account", "SUB $SYS.ACCOUNT.S{other_slot}.CONNECT"),
    ("listen to requests to JetStream", "SUB $JS.API.>"),
    ("listen to requests in the neighbour's account", "SUB $JS.S{other_slot}.API.>"),
    ("listen to advisories", "SUB $JS.EVENT.ADVISORY.>"),
    ("listen to metrics", "SUB $JS.EVENT.METRIC.>"),
    ("listen to acknowledgements", "SUB $JS.ACK.>"),
    ("listen to answers to the bot", "SUB _R_.>"),
    ("listen to answers through gateways", "SUB _GR_.>"),
    ("listen to the cluster's groups", "SUB $NRG.>"),
    ("listen to JetStream's inner subjects", "SUB $JSC.>"),
    ("listen to objects", "SUB $O.>"),
    ("listen to keys and values", "SUB $KV.>"),
    ("listen to MQTT", "SUB $MQTT.>"),
)
WRITING = denied(
    "permissions violation for publish",
    ("an event of its own", "PUB {own}events.MESSAGE_CREATE x"),
    ("an event of its own with the id of a later one", "PUB {own}events.MESSAGE_CREATE Nats-Msg-Id=s:0:2 x"),
    ("an event of another type", "PUB {own}events.READY x"),
    ("an event of no type", "PUB {own}events.x x"),
    ("an event of the neighbour", "PUB {other}events.MESSAGE_CREATE Nats-Msg-Id=s:0:2 x"),
    ("any subject of the neighbour", "PUB {other}x x"),
    ("a dead letter of the neighbour", "PUB {other}events.dead_letter.UNHANDLED x"),
    ("production's event", "PUB {production}.ISOLATION_TRIAL Nats-Expected-Stream=none x"),
    ("as the bot to itself", "PUB slot.{slot}.{own_id}.events.READY x"),
    ("as the bot to the neighbour", "PUB slot.{other_slot}.{other_id}.events.READY x"),
    ("an answer to the bot", "PUB _R_.abcdef.ghijkl {{}}"),
    ("an acknowledgement in another stream", "PUB $JS.ACK.DEAD_LETTERS.c.1.1.1.1.1 +ACK"),
    ("a trace to the neighbour", "PUB {own}x Nats-Trace-Dest={other}x x"),
    ("a trace as an event of its own", "PUB {own}x Nats-Trace-Dest={own}events.READY x"),
    ("a trace to JetStream", "PUB {own}x Nats-Trace-Dest=$JS.API.STREAM.DELETE.SANDBOX x"),
    ("a letter's answer to the bot", "PUB {own}events.dead_letter.X >_R_.abcdef.ghijkl x"),
    ("the next event to the bot", "PUB $JS.API.CONSUMER.MSG.NEXT.SANDBOX.c >_R_.abcdef.ghijkl 1"),
)
SYSTEM = denied(
    "permissions violation for publish",
    ("who is connected", "REQ $SYS.REQ.SERVER.PING.CONNZ {{}}"),
    ("all servers", "REQ $SYS.REQ.SERVER.PING"),
    ("variables of servers", "REQ $SYS.REQ.SERVER.PING.VARZ"),
    ("all subscriptions", "REQ $SYS.REQ.SERVER.PING.SUBSZ"),
    ("all streams", "REQ $SYS.REQ.SERVER.PING.JSZ"),
    ("all accounts", "REQ $SYS.REQ.SERVER.PING.ACCOUNTZ"),
    ("end a connection", "REQ $SYS.REQ.SERVER.NX.KICK {{}}"),
    ("slow a connection down", "REQ $SYS.REQ.SERVER.NX.LDM {{}}"),
    ("reload a server", "REQ $SYS.REQ.SERVER.NX.RELOAD"),
    ("profile a server", "REQ $SYS.REQ.SERVER.NX.PROFILEZ {{}}"),
    ("its own account's connections", "REQ $SYS.REQ.ACCOUNT.PING.CONNZ"),
    ("its own account's figures", "REQ $SYS.REQ.ACCOUNT.PING.STATZ"),
    ("the neighbour's account", "REQ $SYS.REQ.ACCOUNT.S{other_slot}.INFO"),
    ("who it is itself", "REQ $SYS.REQ.USER.INFO"),
    ("ask who may log in", "REQ $SYS.REQ.USER.AUTH x"),
    ("change accounts", "REQ $SYS.REQ.CLAIMS.UPDATE x"),
    ("delete accounts", "REQ $SYS.REQ.CLAIMS.DELETE x"),
    ("a resolver", "REQ $SYS.REQ.ACCOUNT.X.CLAIMS.LOOKUP"),
)
STREAMS = denied(
    "permissions violation for publish",
    ("a stream", "REQ $JS.API.STREAM.CREATE.MINE {{}}"),
    ("another stream of this name", "REQ $JS.API.STREAM.CREATE.SANDBOX {{}}"),
    ("change its stream", "REQ $JS.API.STREAM.UPDATE.SANDBOX {{}}"),
    ("delete its stream", "REQ $JS.API.STREAM.DELETE.SANDBOX"),
    ("purge its stream", "REQ $JS.API.STREAM.PURGE.SANDBOX"),
    ("delete an event", "REQ $JS.API.STREAM.MSG.DELETE.SANDBOX {{}}"),
    ("a snapshot", "REQ $JS.API.STREAM.SNAPSHOT.SANDBOX {{}}"),
    ("restore a snapshot", "REQ $JS.API.STREAM.RESTORE.SANDBOX {{}}"),
    ("move the stream's leader", "REQ $JS.API.STREAM.LEADER.STEPDOWN.SANDBOX"),
    ("remove a peer of the stream", "REQ $JS.API.STREAM.PEER.REMOVE.SANDBOX {{}}"),
    ("move a consumer's leader", "REQ $JS.API.CONSUMER.LEADER.STEPDOWN.SANDBOX.c"),
    ("purge an account", "REQ $JS.API.ACCOUNT.PURGE.S{other_slot}"),
    ("a stream in the neighbour's account", "REQ $JS.S{other_slot}.API.STREAM.INFO.SANDBOX"),
    ("a consumer in the neighbour's account", "REQ $JS.S{other_slot}.API.CONSUMER.CREATE.SANDBOX {{}}"),
    ("a message in the neighbour's account", "REQ $JS.S{other_slot}.API.STREAM.MSG.GET.SANDBOX {{}}"),
    ("delete the neighbour's stream", "REQ $JS.S{other_slot}.API.STREAM.DELETE.SANDBOX"),
    ("JetStream as another domain", "REQ $JS.hub.API.INFO"),
    ("production's stream", "REQ $JS.API.STREAM.INFO.{stream}"),
    ("a consumer of production's stream", "REQ $JS.API.CONSUMER.CREATE.{stream} {{}}"),
    ("a message of production's stream", "REQ $JS.API.STREAM.MSG.GET.{stream} {{}}"),
    ("read dead letters, to repeat one as an event", "REQ $JS.API.DIRECT.GET.DEAD_LETTERS {{}}"),
    ("read a dead letter's subject", "REQ $JS.API.DIRECT.GET.DEAD_LETTERS.{own}events.dead_letter.X"),
    ("get a dead letter", "REQ $JS.API.STREAM.MSG.GET.DEAD_LETTERS {{}}"),
    ("a consumer of dead letters", "REQ $JS.API.CONSUMER.CREATE.DEAD_LETTERS {{}}"),
    ("a durable consumer of dead letters", "REQ $JS.API.CONSUMER.DURABLE.CREATE.DEAD_LETTERS.c {{}}"),
    ("the next dead letter", "REQ $JS.API.CONSUMER.MSG.NEXT.DEAD_LETTERS.c 1"),
    ("delete dead letters", "REQ $JS.API.STREAM.PURGE.DEAD_LETTERS"),
    # Ways to give a list of filters, which the server compares with each other.
    ("a consumer without a filter in its subject", _consumer("l", api="CREATE.SANDBOX.l", filter_subject="")),
    ("a durable consumer the old way", _consumer("l", api="DURABLE.CREATE.SANDBOX.l", filter_subject="")),
    ("a consumer without a name the old way", "REQ $JS.API.CONSUMER.CREATE.SANDBOX {{}}"),
)
JETSTREAM = (
    *denied(
        "10137",
        (
            "a consumer with a list of filters",
            _consumer("l", filter_subject="", filter_subjects=["{own}events.A", "{own}events.B"]),
        ),
    ),
    *denied(
        "10121",
        (
            "a consumer with an endless list of what is unacknowledged",
            _consumer("m", ack_policy="explicit", max_ack_pending=1_000_000),
        ),
    ),
    *denied(
        "10081",
        (
            "a consumer that delivers as events",
            _consumer("p", deliver_subject="{own}events.READY"),
        ),
    ),
    *denied(
        "10037",
        (
            "the neighbour's last event",
            'REQ $JS.API.STREAM.MSG.GET.SANDBOX {{"last_by_subj":"{other}events.MESSAGE_CREATE"}}',
        ),
    ),
    *denied(
        "10060",
        (
            "a letter with an id for another stream",
            "REQ {own}events.dead_letter.X Nats-Expected-Stream=SANDBOX Nats-Msg-Id=s:0:2 x",
        ),
    ),
)
LOGINS = denied(
    "authorization violation",
    ("as the neighbour with its own password", "LOGIN {other_user} {password}"),
    ("as the neighbour without a password", "LOGIN {other_user}"),
    ("with a wrong password", "LOGIN {own_user} x"),
    ("as nobody", "LOGIN"),
    ("as the bot", "LOGIN bot {password}"),
    ("as the system", "LOGIN sys {password}"),
    ("as a slot", "LOGIN S{other_slot} {password}"),
)
QUIET = nothing(
    ("a letter's answer to the neighbour", "PUB {own}events.dead_letter.X >{other}events.READY x"),
    ("a letter's answer to the system", "PUB {own}events.dead_letter.X >$SYS.REQ.SERVER.PING x"),
    ("the next event to the neighbour", "PUB $JS.API.CONSUMER.MSG.NEXT.SANDBOX.c >{other}events.READY 1"),
    (
        "the next event to a request",
        "PUB $JS.API.CONSUMER.MSG.NEXT.SANDBOX.c >$JS.API.STREAM.PURGE.SANDBOX 1",
    ),
    ("a stored event to a request", "PUB $JS.API.DIRECT.GET.SANDBOX >$JS.API.STREAM.UPDATE.SANDBOX {{}}"),
    (
        "a stored event to the bot's subject",
        "PUB $JS.API.DIRECT.GET.SANDBOX >slot.{other_slot}.x.events.A {{}}",
    ),
    (
        "a consumer of the neighbour's subjects",
        _consumer("f", of="{other}events.*"),
    ),
    ("answers to others", "SUB _INBOX.>"),
    ("its own subjects", "SUB {own}>"),
    ("streams it sees", "REQ $JS.API.STREAM.NAMES"),
    ("streams it sees, with all about them", "REQ $JS.API.STREAM.LIST"),
    ("what its account uses", "REQ $JS.API.INFO"),
    ("the neighbour's last event directly", "REQ $JS.API.DIRECT.GET.SANDBOX.{other}events.MESSAGE_CREATE"),
    ("any event's number", 'REQ $JS.API.DIRECT.GET.SANDBOX {{"seq":1}}'),
    (
        "a consumer that delivers to the neighbour",
        _consumer("n", deliver_subject="{other}x"),
    ),
    (
        "a consumer that delivers as the bot publishes",
        _consumer("s", deliver_subject="slot.{other_slot}.{other_id}.events.READY"),
    ),
    (
        "a consumer that delivers to JetStream",
        _consumer("d", deliver_subject="$JS.API.STREAM.DELETE.SANDBOX"),
    ),
    ("somebody behind its own subjects", "PUB {own}x x"),
    ("answers that nobody asked for", "PUB _INBOX.x x"),
    ("the answer to a flow control", "PUB $JS.FC.SANDBOX.c.x x"),
    ("an acknowledgement that nobody waits for", "PUB $JS.ACK.SANDBOX.c.1.1.1.1.1 +TERM"),
)
OWN_HARM = (
    *possible(
        "JetStream sends an answer where a worker wants it, also among the sandbox's own events: it has no "
        "message id that the worker chose, and the bot's events are stored as before.",
        ("a letter's answer as its own event", "PUB {own}events.dead_letter.X >{own}events.READY x"),
        (
            "a repetition of its own event",
            'PUB $JS.API.DIRECT.GET.SANDBOX >{own}events.READY {{"seq":1}}',
        ),
        ("figures as its own event", "PUB $JS.API.INFO >{own}events.READY"),
    ),
    *possible(
        "Dead letters are the worker's to write; the oldest go when there are too many.",
        ("a dead letter", "REQ {own}events.dead_letter.X Nats-Msg-Id=s:0:2 x"),
    ),
    *possible(
        "A consumer with `max_ack_pending` -1 has no limit of its own: the list of unacknowledged events is "
        "as long as the stream.",
        ("no limit of a consumer", _consumer("u", ack_policy="explicit", max_ack_pending=-1)),
    ),
    *possible(
        "Consumers of its own events are the worker's to make, to change and to delete.",
        (
            "a consumer",
            _consumer("c"),
        ),
        ("delete a consumer", "REQ $JS.API.CONSUMER.DELETE.SANDBOX.c"),
    ),
)
NATS: Table = {
    "listening": LISTENING,
    "publishing": WRITING,
    "the system": SYSTEM,
    "streams and consumers": (*STREAMS, *JETSTREAM),
    "logging in": LOGINS,
    "answers and detours": QUIET,
    "within its rights": OWN_HARM,
}
