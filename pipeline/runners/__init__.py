"""Runs pipelines: locally, node by node in a warm worker, and on Airflow."""
