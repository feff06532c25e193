"""The commands of `tfrec-meta` with one line about each, by the sections of `tfrec-meta --help`.

The summaries stand here and not in the commands' modules, so that `tfrec-meta --help` imports none
of these.
"""

from __future__ import annotations

SECTIONS = {
    "Data and training": {
        "init": "Write a folder with a config for a shop, news, video, music or a social feed.",
        "data": "Check a log of events, and write a starting config for it.",
        "fetch": "Fetch a MovieLens data set into the cache folder.",
        "train": "Train a model into a run folder, or resume a stopped training.",
        "tune": "Search for the best strategy on the validation events, or resume a search.",
        "distill": "Train a student model from teachers and compare it with them.",
    },
    "Evaluation": {
        "evaluate": "Rank the full catalogue for the test users and compare with baselines.",
        "compare": "Compare two trained runs on the same test events, paired by user.",
        "report": "Write the HTML report of a run; evaluates the run first if needed.",
        "cold-start": "Evaluate a run's model on new users by their number of known events.",
    },
    "Serving": {
        "export": "Export a run's model as a SavedModel for TF Serving.",
        "serve": "Serve an exported model over TF Serving's gRPC API.",
        "recommend": "Request recommendations from a server.",
        "adapt": "Request recommendations for a new user from a few items.",
    },
    "Upkeep": {
        "doctor": "Check the installation: what is wrong and how to fix it.",
        "studies": "List, show and maintain the stored studies of earlier searches.",
        "completion": "Print the completion script for a shell.",
    },
}
DATA = {
    "check": "Describe the columns and events of files, and write a starting config.",
    "schema": "Print the JSON Schema of config files, for editors.",
}
STUDIES = {
    "list": "List the studies, one per line.",
    "show": "Show one study and its best trials.",
    "export": "Write studies to a JSON file, or their trials to a Parquet or CSV file.",
    "import": "Import studies from an export, another store, KerasTuner or a TFX Tuner.",
    "prune": "Remove studies, or all but their best trials.",
    "compact": "Free the space of removed and replaced records.",
}
GROUPS = {"data": DATA, "studies": STUDIES}
"""The commands of the groups, by the name of the group."""
SUMMARIES = {name: text for commands in SECTIONS.values() for name, text in commands.items()} | {
    f"{group} {name}": text for group, commands in GROUPS.items() for name, text in commands.items()
}
