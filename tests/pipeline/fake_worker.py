"""A worker for tests whose nodes are small scripts; without TFX, so that it starts quickly."""

import runpy
import sys
import time
from pathlib import Path

from tfrec_meta.pipeline.runners.worker import Worker


def prepare(run: Path):
    def run_node(arguments):
        script = str(run / f"{arguments[-1]}.py")
        runpy.run_path(script, {"run": run, "wait": time.sleep})
        return 0

    if (run / "broken").exists():
        raise ImportError("no such module")
    time.sleep(float((run / "slow").read_text()) if (run / "slow").exists() else 0)
    return run_node


if __name__ == "__main__":
    sys.exit(Worker(sys.argv[1], float(sys.argv[2]), prepare).serve())
