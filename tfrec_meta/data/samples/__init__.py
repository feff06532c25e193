"""Raw files as companies have them, drawn from known tastes: one module per kind of product."""
