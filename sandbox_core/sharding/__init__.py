"""Which process publishes which shard of an application, and how another one goes on with it."""
