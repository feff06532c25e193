"""Layers and tensor functions that several families use."""
