"""Shows one sandbox's life offline, as a person would see it: `sandboxctl tour`.

It uses real servers from their wheels, the real bot, and a local Discord. Nothing else of the bot imports
the simulator.
"""

from ._play import play

__all__ = ["play"]
