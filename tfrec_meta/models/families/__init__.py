"""Model families, one file each. The registry (`tfrec_meta.models.registry`) lists them."""
