"""The serving contract: names of the signatures, tensors and files of an exported model.

Exporter, server and client share only this module, so it imports no TensorFlow. The batch is the
first dimension of every input and output. The widths `H`, `E`, `C` and `S` are fixed at export. A
client reads `H`, `E` and `S` from the shapes of `SignatureDef.defaults`, which hold one row each
(`S` is the width of `label`), and `C` from the static shape of the output `score` of `rank`.
"""

import numbers

# Signatures.
SERVING_DEFAULT = "serving_default"  # examples -> item_id, score
RECOMMEND = "recommend"  # user side, k -> item_id, score
RANK = "rank"  # user side, item_id [B, C] -> score [B, C], and one output per target
RANK_EXAMPLES = "rank_examples"  # examples -> score [B], and one output per target
EMBED_QUERY = "embed_query"  # user side -> embedding [B, d]
EMBED_ITEM = "embed_item"  # item side -> embedding [B, d]
ADAPT = "adapt"  # support set, k, exclude -> item_id, score, support_used

# Tensors.
EXAMPLES = "examples"  # string [B], serialised tf.Example
USER_ID = "user_id"  # string [B]
ITEM_ID = "item_id"  # string [B]; [B, C] of `rank`; [B, S] of a support set; [B, K] of an answer
LABEL = "label"  # float32 [B, S], from 0 (disliked) to 1 (chosen)
HISTORY = "history"  # string [B, H], oldest first, "" pads on the right
EXCLUDE = "exclude"  # string [B, E]
K = "k"  # int32 [B]
SCORE = "score"  # float32 [B, K], [B, C] or [B]
SCORE_PREFIX = "score_"  # score_rating, score_click: outputs of `rank` and `rank_examples`
EMBEDDING = "embedding"  # float32 [B, d]
FILTER_PREFIX = "filter_"  # filter_<attribute>: string [B, F]
DIVERSITY = "diversity"  # float32 [B]
SUPPORT_USED = "support_used"  # int32 [B], number of support items that are in the catalogue

PADDING = ""  # of string tensors, also of an answer's places beyond the row's own `k`


def version_of(name: str) -> int | None:
    """Returns the version number that a folder's name stands for; None if it is not a version.

    A version is a positive decimal number that fits the int64 of requests, in ASCII digits and
    without leading zeros, so that one number has one folder.

    Example:
        >>> from tfrec_meta.export.signatures import version_of
        >>> version_of("12"), version_of("12.tmp")
        (12, None)
    """
    # A name of 20 digits is above 2**63, and Python refuses to read one of 5,000.
    plain = name.isascii() and name.isdigit() and name[0] != "0" and len(name) < 20
    version = int(name) if plain else 0
    return version if is_version(version) else None


def is_version(value: object) -> bool:
    """Returns whether a value is a version: an integer (also NumPy's) from 1 to 2**63 - 1.

    Example:
        >>> from tfrec_meta.export.signatures import is_version
        >>> is_version(3), is_version(True), is_version(1.0), is_version(2**63)
        (True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        return False
    return 1 <= int(value) < 2**63


# Files next to the SavedModel, below `assets.extra/`.
EXTRA_ASSETS = "assets.extra"
WARM_UP_REQUESTS = "tf_serving_warmup_requests"
MODEL_CARD = "model_card.md"
MANIFEST = "assets.extra/manifest.json"  # sizes and digests of all other files of the version
MANIFEST_MARK = "tfrec_meta_manifest"  # a function alias in the SavedModel: there is a manifest
FEATURE_SPEC = "feature_spec"  # a folder
CATALOGUE = "catalogue.parquet"  # item_id, and the attributes of the items table (title, ...)
