"""Where rows are: files on this machine and on object stores, tables and queries of databases."""
