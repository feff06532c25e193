"""The rows of tables and of Histories, as Arrow tables and examples."""
