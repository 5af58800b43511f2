"""The sentence about gateway processes that have not confirmed a change of routes."""

from __future__ import annotations

from collections.abc import Sequence


def unconfirmed_text(processes: Sequence[str]) -> str:
    """Return the sentence about these processes, by name (`host:pid`); "" when there are none."""
    if not processes:
        return ""
    if len(processes) == 1:
        return (
            f"{processes[0]} has not confirmed this yet; until it has caught up, it publishes nothing of "
            "these servers by their old route."
        )
    names = f"{', '.join(processes[:-1])} and {processes[-1]}"
    return (
        f"{names} have not confirmed this yet; until they have caught up, they publish nothing of these "
        "servers by their old route."
    )
