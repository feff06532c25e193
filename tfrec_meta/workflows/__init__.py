"""The workflows: each module combines the other packages into one task, such as `train`."""
