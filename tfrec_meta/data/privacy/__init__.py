"""Privacy: pseudonyms of users, and the columns that look like data about people."""
