"""The bot that is deployed: the fixtures of the end-to-end tests."""

from tests.e2e.conftest import discord_untouched, live, sim, start_bot, start_live, urls

__all__ = ["discord_untouched", "live", "sim", "start_bot", "start_live", "urls"]
