"""One sandbox's life, played offline as a person would: `python -m sandbox_bot.tour`.

Real servers from their wheels, the real bot, and a local Discord in its place. It is the one part of the
bot that knows the simulator. `KEEP=1` stays up afterwards.
"""
