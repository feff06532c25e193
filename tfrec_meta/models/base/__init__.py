"""The contract of all model families, its base classes, composites and saved models."""
