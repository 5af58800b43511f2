"""Reproducible measurements: `make bench`, or `make bench ARGS="latency"` for one of them."""
