"""The process: settings, wiring, Discord client, gateway socket, ops server and command line."""
