"""Where Beam runs the steps that read, clean, count and write rows.

Runs in this process and in several worker processes are tested. The arguments for Flink, Spark and
Dataflow follow Beam's documentation and have never been tried with this package.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from tfrec_meta.checks import check_fields, not_empty, whole_number

# Arguments that keep Beam in this process. DirectRunner would first try to download a runner called
# Prism, and without an image TFX would package itself for remote workers, for every node.
IN_PROCESS = ("--runner=FnApiRunner", "--sdk_container_image=in_process")

_NEEDED = {
    "in_process": (),
    "processes": (),
    "flink": ("master", "image"),
    "spark": ("master", "image"),
    "dataflow": ("project", "region", "temp_location", "image"),
}
_ACCEPTED = {
    "processes": ("workers",),
    "flink": ("workers",),
    "spark": (),
    "dataflow": ("workers",),
}
_EXAMPLES = {
    "master": "the address of the cluster, such as host:8081 or spark://host:7077",
    "image": "a container image with this package and its requirements",
    "project": "the project in Google Cloud",
    "region": "a region, such as europe-west1",
    "temp_location": "a folder for Dataflow's files, such as gs://bucket/beam",
}
_UNTRIED = ("flink", "spark", "dataflow")

Text = Annotated[str, not_empty()]


@dataclasses.dataclass(frozen=True)
class BeamConfig:
    """The runner of Beam, and its options.

    Args:
        runner: "in_process"; "processes" for several worker processes on this machine; or "flink",
            "spark" or "dataflow", whose arguments are generated and have never been tried.
        workers: number of worker processes, by default one per CPU core; for Flink the parallelism,
            and for Dataflow the largest number of workers.
        master: the address of the cluster of Flink or Spark.
        image: a container image with this package, for the workers of a cluster.
        project, region, temp_location: for Dataflow.
        options: further arguments for Beam. With "--runner=..." among them, they are all arguments.

    Raises:
        ParameterError: if a setting that the runner needs is missing, or one has no effect.

    Example:
        >>> from tfrec_meta.pipeline.configs.beam_config import BeamConfig
        >>> BeamConfig("processes", workers=2).arguments[-1]
        '--direct_num_workers=2'
    """

    runner: Literal["in_process", "processes", "flink", "spark", "dataflow"] = "in_process"
    workers: Annotated[int, whole_number(1)] | None = None
    master: Text | None = None
    image: Text | None = None
    project: Text | None = None
    region: Text | None = None
    temp_location: Text | None = None
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        given = {
            field.name
            for field in dataclasses.fields(self)
            if field.name not in ("runner", "options") and getattr(self, field.name) is not None
        }
        if self._has_own_runner:
            if given or self.runner != "in_process":
                raise ValueError(
                    "`options` has --runner=..., and then no other setting of Beam has an effect; "
                    "leave out --runner, or the other settings."
                )
            return
        for name in _NEEDED[self.runner]:
            if name not in given:
                raise ValueError(f"`runner`={self.runner!r} needs `{name}`: {_EXAMPLES[name]}.")
        unused = sorted(given - {*_NEEDED[self.runner], *_ACCEPTED.get(self.runner, ())})
        if unused:
            raise ValueError(
                f"`{unused[0]}` has no effect with `runner`={self.runner!r}; leave it out, or use "
                "another runner."
            )

    @property
    def is_untried(self) -> bool:
        """Whether the arguments have never been tried with this package."""
        return self.runner in _UNTRIED

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments for Beam."""
        if self._has_own_runner:
            return self.options
        return (*self._of_runner(), *self.options)

    @property
    def _has_own_runner(self) -> bool:
        return any(option.startswith("--runner") for option in self.options)

    def _of_runner(self) -> tuple[str, ...]:
        in_containers = ("--environment_type=DOCKER", f"--environment_config={self.image}")
        match self.runner:
            case "in_process":
                return IN_PROCESS
            case "processes":
                mode = "--direct_running_mode=multi_processing"
                return (*IN_PROCESS, mode, f"--direct_num_workers={self.workers or 0}")
            case "flink":
                parallel = () if self.workers is None else (f"--parallelism={self.workers}",)
                master = f"--flink_master={self.master}"
                return ("--runner=FlinkRunner", master, *in_containers, *parallel)
            case "spark":
                master = f"--spark_master_url={self.master}"
                return ("--runner=SparkRunner", master, *in_containers)
        limit = () if self.workers is None else (f"--max_num_workers={self.workers}",)
        return (
            "--runner=DataflowRunner",
            f"--project={self.project}",
            f"--region={self.region}",
            f"--temp_location={self.temp_location}",
            f"--sdk_container_image={self.image}",
            *limit,
        )
