"""HTML pages: the page kit, shared charts and formats, and one module per kind of page.

Workflows, commands and the pipeline call this package. A page receives plain values and types of
`tfrec_meta.evaluation`.
"""
