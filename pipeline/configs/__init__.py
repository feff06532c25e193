"""Configs of pipelines from the config files of runs."""
