"""Configs: of the tables and of Beam, and of pipelines from the config files of runs."""
