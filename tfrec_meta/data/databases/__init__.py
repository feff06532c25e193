"""Tables and queries of SQL databases, read through SQLAlchemy."""
