"""The REST API: routes by area, one table of them in :mod:`discord_sim.rest.server`."""
