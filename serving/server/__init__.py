"""The local server: loaded versions behind TF Serving's gRPC services."""
