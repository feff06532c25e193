"""The TFX pipeline. Import it as `tfrec_meta.pipeline`: `import pipeline` loads a second copy."""
