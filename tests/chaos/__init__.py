"""Faults while events flow, and proof that each event arrived once, unchanged, in order, where it belongs."""
