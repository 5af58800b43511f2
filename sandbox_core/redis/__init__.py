"""Redis: the client, and the one translation of the driver's errors."""
