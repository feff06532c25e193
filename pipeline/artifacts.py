"""Artifact types of ours; everything else that nodes exchange is a standard artifact of TFX."""

from tfx.types import artifact

MODEL = "model"  # below a Model artifact, beside the SavedModel: what `tfrec_meta.load` reads
SPLIT_BY = "split_by"  # custom property of Histories' Examples: `SplitConfig.told`


class AcceptedData(artifact.Artifact):
    """What the data gate accepted, and so what later data is held to.

    Below its uri, a folder a table (`interactions`, `users`, `items`) with `schema.pbtxt`,
    `FeatureStats.pb` and, for the ids, `ids.parquet`.
    """

    TYPE_NAME = "TfrecMetaAcceptedData"


class ComparedSplits(artifact.Artifact):
    """How far features moved from train to validation and test: `drift.json`."""

    TYPE_NAME = "TfrecMetaComparedSplits"


class Catalogue(artifact.Artifact):
    """Who and what there is: `items.parquet` and `users.parquet`, as far as there are tables."""

    TYPE_NAME = "TfrecMetaCatalogue"


class SeenItems(artifact.Artifact):
    """What every user did before the test events: `events.parquet`, as `Interactions.events`."""

    TYPE_NAME = "TfrecMetaSeenItems"


class Verdict(artifact.Artifact):
    """Why a model was blessed or not: `verdict.json`, and `verdict.html` for people."""

    TYPE_NAME = "TfrecMetaVerdict"
