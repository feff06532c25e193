"""Surveys of unknown event logs: columns, their likely meaning, and facts that guide settings."""
