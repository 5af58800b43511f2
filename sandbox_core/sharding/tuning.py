"""The gateway's times, in seconds, in one place: tests make them short."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewayTuning:
    """How long the gateway waits for what."""

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
