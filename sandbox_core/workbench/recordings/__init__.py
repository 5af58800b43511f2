"""Recordings: a sandbox's events, kept beyond its life, exported and sent again."""
