"""Which process publishes which shard of an application, and how another one goes on with it.

- `leases`: who has which shard; `held_shards`, `certainty` and `lease_types` belong to it, `lease_rows` and
  `other_leases` its table.
- `peers`: what processes tell and ask each other over NATS.
- `sessions`, `shard_session`: the gateway sessions of this process; `resume_points` with `resume_point_keys`
  (Redis) and `resume_point_rows` (PostgreSQL): where they can be resumed.
- `identify`, `identify_rows`: when a new session may begin.
- `succession`, `joining`, `settled`, `host_shards`: going on with a shard from a session of one's own.
- `publishers`, `registered`, `state`: who publishes, for whoever shows or tells it.
- `tuning`: the times of all of it.

A process lives as long as `gateway_processes` names a session of PostgreSQL that is not over. What it
publishes, or would, stands in `gateway_publishers`, and what it holds in `gateway_shards`.
"""
