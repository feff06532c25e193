"""Studies: their records, the store of all studies, imports, and the identity of a study folder."""
