"""Files, digests and progress bars. This package imports no other part of tfrec_meta."""
