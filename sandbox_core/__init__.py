"""The domain of Discord Server Sandboxes: life cycle, routing and stores, without Discord's library."""
