"""The nodes that stop a run or refuse a model, and their rules."""
