"""The TFX pipeline. Import it as `tfrec_meta.pipeline`; a bare `import pipeline` would load a second copy."""
