"""Redis: the client, one module for each kind of keys, and the translation of the driver's errors."""
