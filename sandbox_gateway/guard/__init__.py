"""The REST guard: lets through what stays in a sandbox's servers, and nothing else."""
