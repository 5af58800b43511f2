"""The workbench: events seen, kept, repeated and made."""
