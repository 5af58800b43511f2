"""One sandbox's life, played offline as a person would: `sandboxctl tour`.

Real servers from their wheels, the real bot, and a local Discord in its place. It is the one part of the
bot that knows the simulator.
"""

from ._play import play

__all__ = ["play"]
