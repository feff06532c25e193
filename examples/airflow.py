"""Airflow 3 on this machine, with the pipeline on MovieLens-100K.

Run it with `make airflow`, open the printed address, and trigger the DAG `movies`. Further
arguments go to the server: `make airflow ARGS="--port 8081 --schedule @daily"`.
"""

from __future__ import annotations

import sys

import tfrec_meta as tm
from examples.pipeline import CONFIG, write_tables
from tfrec_meta.pipeline import PipelineConfig
from tfrec_meta.pipeline.runners import airflow_server


def main() -> int:
    write_tables(tm.movielens("100k"), PipelineConfig.read(CONFIG))
    return airflow_server.main(["--config", str(CONFIG), *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
