"""What items are made of: BERT text encoders, their checkpoints and caches, and text vectors."""
