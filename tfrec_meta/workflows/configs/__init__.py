"""Configs of runs: reading them from YAML files, and starting ones for unknown logs."""
