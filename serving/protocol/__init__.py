"""What client and server share: TF Serving's messages, tensors, errors and version folders."""
