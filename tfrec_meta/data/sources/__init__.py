"""Where interactions come from: files, streamed files, MovieLens, and generated data."""
