"""NATS: the connection, the two streams, and acknowledged publishing."""
