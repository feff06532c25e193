"""Losses of retrieval, single events, distillation and several tasks."""
