"""The REST API: one module of routes for each area; `discord_sim.rest.server` joins them."""
