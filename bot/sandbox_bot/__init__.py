"""The process: settings, wiring, Discord client, gateway socket, ops server and command line."""

__version__ = "0.1.0"
