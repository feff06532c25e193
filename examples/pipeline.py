"""The TFX pipeline on MovieLens-100K, and requests to the pushed model.

Run it with `make pipeline`. All output is in `.runs/movies`; in a second run, unchanged nodes come
from the cache. Further arguments go to the pipeline: `make pipeline ARGS="--set tuner.trials=3"`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

import tfrec_meta as tm
from examples.demo import served, show_recommendations, step  # first: it hides TensorFlow's log
from tfrec_meta.data import Interactions
from tfrec_meta.pipeline import PipelineConfig, newest_version
from tfrec_meta.pipeline.runners import local_runner
from tfrec_meta.serving import Catalogue

CONFIG = Path(__file__).with_suffix(".yaml")


def main() -> int:
    began = time.monotonic()
    config = PipelineConfig.read(CONFIG)

    step("1. Fetch: 100,000 ratings from MovieLens, as the three tables of a data platform")
    data = tm.movielens("100k")
    write_tables(data, config)
    print(f"{data!r}\nin {Path(config.data.interactions.path).parent}")

    step("2. Run the pipeline")
    status = local_runner.main(["--config", str(CONFIG), *sys.argv[1:]])
    if status:
        return status

    step("3. Serve the pushed model, and send requests over gRPC")
    version = newest_version(config.serving)
    if not version:
        print("error: no model was blessed, so none is served.", file=sys.stderr)
        return 1
    base = Path(config.serving)
    with served(base) as address:
        show_recommendations(address, Catalogue.read(base / str(version)), data)
    print(f"Done in {time.monotonic() - began:.0f} s.")
    return 0


def write_tables(data: Interactions, config: PipelineConfig) -> None:
    """Writes the tables as Parquet files to the paths in the config."""
    tables = {"interactions": data.events, "users": data.users, "items": data.items}
    for name, table in tables.items():
        path = Path(config.data.tables[name].path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # A rewritten file would invalidate the cache.
        if not path.is_file() or not pq.read_table(path).equals(table):
            pq.write_table(table, path)


if __name__ == "__main__":
    sys.exit(main())
