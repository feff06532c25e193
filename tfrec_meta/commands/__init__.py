"""The command `tfrec-meta`: one module per command, over the workflows."""
