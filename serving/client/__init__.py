"""The client: requests, their tensors, the connection, and the catalogue of titles."""
