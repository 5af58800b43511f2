"""What a sandbox's worker may do on the sandboxes' NATS server, inside the account of its slot."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sandbox_core.subjects import SLOT_STREAM, nats_prefix, sandbox_events

_ON_STREAM = ("STREAM.INFO.{0}", "STREAM.MSG.GET.{0}", "DIRECT.GET.{0}", "DIRECT.GET.{0}.>")
# Everything on consumers but for moving their leaders. One is made with its name and its one filter in the
# subject: then the server takes no list of filters. It would compare each of a list with each other, which
# with one message of a megabyte keeps JetStream from answering any sandbox for hours.
_ON_CONSUMERS = (
    "CONSUMER.CREATE.{0}.*.>",
    "CONSUMER.INFO.{0}.*",
    "CONSUMER.LIST.{0}",
    "CONSUMER.NAMES.{0}",
    "CONSUMER.DELETE.{0}.*",
    "CONSUMER.PAUSE.{0}.*",
    "CONSUMER.UNPIN.{0}.*",
    "CONSUMER.MSG.NEXT.{0}.*",
)


def worker_permissions(sandbox_id: UUID | str) -> dict[str, Any]:
    """The permissions of a sandbox's worker, as a user's token has them.

    A denial counts more than what is allowed. Only the bot writes events. Dead letters are in another stream,
    which a worker can't read: otherwise JetStream would repeat one as an event at its request, with a message
    id that it made up.
    """
    own = f"{nats_prefix(sandbox_id)}>"
    api = [f"$JS.API.{each.format(SLOT_STREAM)}" for each in (*_ON_STREAM, *_ON_CONSUMERS)]
    return {
        "pub": {
            "allow": [
                own,
                "_INBOX.>",
                "$JS.API.INFO",
                "$JS.API.STREAM.NAMES",
                "$JS.API.STREAM.LIST",
                *api,
                f"$JS.ACK.{SLOT_STREAM}.>",
                "$JS.FC.>",
            ],
            "deny": [sandbox_events(sandbox_id)],
        },
        "sub": {"allow": [own, "_INBOX.>"]},
    }
