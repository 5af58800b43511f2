"""The gateway's times, in seconds, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Leases

LEASE: Final = 6.0
"""A lease lasts so long from its last renewal."""
TURN_EVERY: Final = 1.0
"""From one turn with the leases to the next."""
TURN_WITHIN: Final = 2.5
"""For PostgreSQL to answer in a turn."""
TRUSTED_SHARE: Final = 5 / 6
"""Of a lease, for which its holder acts on it: what was sent last has to be stored before another process
that takes the shard looks."""
STOOD_STILL: Final = 1.0
"""A turn that took so much longer than it may stood still, and says nothing about the database."""
STOPS_WITHIN: Final = 0.5
"""For an earlier holder which lives, as a rule, to hear of a takeover and to stop."""
TAKEOVER_LOOKED_UP_WITHIN: Final = 0.25
"""For PostgreSQL to answer whether it is so; the taker waits for the answer as long as `STOPS_WITHIN`."""
TOLD_AGAIN_WITHIN: Final = 2.5
"""Takers say it in every turn: one second, and what the database takes to answer."""
NO_HAND_OVER_FOR: Final = 30.0
"""After a hand-over that failed; each attempt costs a connection."""
LEAVE_WITHIN: Final = 3.0
"""For PostgreSQL and NATS to hear that a plugin gives its shards up."""
AFTER_FAILURE: Final = 1.0
"""Until what failed for no known reason is tried again."""
PUBLISHER_SEEN_WITHIN: Final = 6.0
"""A process counts as there for so long after its last turn."""
TOLD_AFTER: Final = 10.0
"""A process stands by for so long before somebody is told: a restart is shorter than that."""

# What processes ask each other over NATS

HOLDERS_ANSWER_WITHIN: Final = 1.0
HOLDERS_STOOD_STILL: Final = 0.5
"""Whoever asked, and went on so much later than it meant to, may have been asked meanwhile."""
PRESENCE_ANSWER_WITHIN: Final = 0.5
PRESENCE_ASKED_AGAIN_AFTER: Final = 0.1
"""In a cluster every server knows by then who is connected to another one."""

# Sessions and where they can be resumed

SAVE_EVERY: Final = 0.1
"""From one writing of resume points to the next."""
SAVED_AGAIN_AFTER: Final = 10.0
"""Also a quiet shard's resume point has to outlive what the stores keep, and to tell a recent moment."""
STORE_WITHIN: Final = 1.0
"""For Redis or PostgreSQL to take or to give a resume point."""
STORES_WITHIN: Final = 3.0
"""For both together."""
STORES_WAITED_FOR: Final = 60.0
"""While neither answers. Discord keeps a session for a few minutes; most of what a crash cost is replayed by
then."""
STORE_RESTS_FOR: Final = 2.0
"""Redis is left alone after a failure: an outage then costs one time-out and not one for each save."""
COPY_EVERY: Final = 10.0
"""From one copy of a resume point in PostgreSQL to the next."""
STORE_PAUSE: Final = 0.25
"""Between two questions to a server that is away."""
SESSION_KEPT: Final = 900
"""Discord keeps a session resumable for a few minutes; an older one would only be refused."""

# Going on from another session

KEPT_LONGER: Final = 5.0
"""Settled events are kept so much longer: those behind them are recognised by their neighbours."""
SETTLED_MARGIN: Final = 2.0
APART: Final = 1.0
"""The same event reaches two sessions at different moments."""
TOGETHER: Final = 3.0
CONNECTED_LOOK: Final = 0.05
DRAIN_LOOK: Final = 0.02

# Connections

IDENTIFY_SPACING: Final = 5.25
"""Between two turns of a bucket: Discord's five, and something for what happens in between."""
IDENTIFY_FIRST_PAUSE: Final = 10.0
IDENTIFY_LONGEST_PAUSE: Final = 300.0
IDENTIFY_LOOK_AGAIN: Final = 30.0
IDENTIFY_ROWS_WITHIN: Final = 2.0
"""For PostgreSQL to answer about IDENTIFYs; then this process goes by what it knows."""
RECONNECT_FIRST_PAUSE: Final = 0.5
CLOSED_AT_ONCE: Final = 10.0
"""A connection that Discord closes sooner was closed at once."""


@dataclass(frozen=True, slots=True)
class GatewayTuning:
    """How long the gateway's connections wait for what; tests make it short."""

    connect_within: float = 15.0
    """For a connection and Discord's HELLO on it."""
    close_within: float = 1.0
    """For Discord to answer our close; afterwards the connection is dropped."""
    hold_within: float = 20.0
    """A socket may stay unread for so long while the router is full; then it is closed, to be resumed.
    Less than a heartbeat interval, so that Discord never has a reason to close it first."""
    steady_after: float = 60.0
    """A session that stood for so long has stayed up: later failures are not held against it."""
    longest_pause: float = 30.0
    """At most between two attempts to connect while they fail."""
    longest_pause_in_storm: float = 5.0
    """At most between two connections that each were established, but are ended again and again."""
    hand_over_within: float = 5.0
    """For the events of a shard to be acknowledged before another process gets it."""
