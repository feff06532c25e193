"""The artifact types of this pipeline; all other artifacts are TFX's standard types."""

from tfx.types import artifact

# Folder below a Model artifact, next to the SavedModel, that `tfrec_meta.load` reads.
MODEL = "model"
# Custom property of the Examples of Histories: `SplitConfig.identity`.
SPLIT_IDENTITY = "split_identity"


class AcceptedData(artifact.Artifact):
    """The state of the data that the data gate accepted; later data is compared with it.

    The artifact's folder has one folder per table (`interactions`, `users`, `items`) with
    `schema.pbtxt`, `FeatureStats.pb` and, for the ids, `ids.parquet`.
    """

    TYPE_NAME = "TfrecMetaAcceptedData"


class SplitComparison(artifact.Artifact):
    """The drift of features from train to validation and test: `drift.json`."""

    TYPE_NAME = "TfrecMetaSplitComparison"


class CatalogueTables(artifact.Artifact):
    """All items and users with their attributes: `items.parquet` and `users.parquet`.

    A table that the pipeline has no input for has no file. If the config declares how events count,
    `feedback.json` says it, for all nodes that read the events.
    """

    TYPE_NAME = "TfrecMetaCatalogueTables"


class SeenItems(artifact.Artifact):
    """All events before the test split: `events.parquet`, with the columns of `Interactions`."""

    TYPE_NAME = "TfrecMetaSeenItems"


class BlessingReport(artifact.Artifact):
    """The reasons why a model was blessed or not: `verdict.json`, and `verdict.html` for people."""

    TYPE_NAME = "TfrecMetaBlessingReport"
