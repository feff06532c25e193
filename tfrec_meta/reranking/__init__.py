"""Re-ranking changes the order of the best items, for example to make an answer more diverse."""
