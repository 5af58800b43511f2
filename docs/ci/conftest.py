"""A suite that tests a worker, each test in a sandbox of its own."""

from __future__ import annotations

pytest_plugins = ["sandbox_bot.pytest_plugin"]
