"""Tables of events, users and items: from arrays and frames, their checks, and their folder."""
