"""The serving contract: names of signatures, tensors and files of an exported model.

Exporter, server and client share this module and nothing else, so it imports no TensorFlow.
Every input and output has the batch as its first dimension; the widths `H`, `E`, `C` and `S` are
fixed at export. A client learns `H`, `E` and `S` from the shapes of `SignatureDef.defaults` (one
row each; `S` is that of `label`) and `C` from the static shape of the output `score` of `rank`.
"""

# Signatures.
SERVING_DEFAULT = "serving_default"  # examples -> item_id, score
RECOMMEND = "recommend"  # user side, k -> item_id, score
RANK = "rank"  # user side, item_id [B, C] -> score [B, C], and one a target
RANK_EXAMPLES = "rank_examples"  # examples -> score [B], and one a target
EMBED_QUERY = "embed_query"  # user side -> embedding [B, d]
EMBED_ITEM = "embed_item"  # item side -> embedding [B, d]
ADAPT = "adapt"  # support set, k, exclude -> item_id, score, support_used

# Tensors.
EXAMPLES = "examples"  # string [B], serialised tf.Example
USER_ID = "user_id"  # string [B]
ITEM_ID = "item_id"  # string [B], [B, C], [B, S] of a support set or, in an answer, [B, K]
LABEL = "label"  # float32 [B, S], from 0 (not for me) to 1 (chosen)
HISTORY = "history"  # string [B, H], oldest first, "" pads on the right
EXCLUDE = "exclude"  # string [B, E]
K = "k"  # int32 [B]
SCORE = "score"  # float32 [B, K], [B, C] or [B]
SCORE_PREFIX = "score_"  # score_rating, score_click: as `score` of `rank` and `rank_examples`
EMBEDDING = "embedding"  # float32 [B, d]
FILTER_PREFIX = "filter_"  # filter_<attribute>: string [B, F]
DIVERSITY = "diversity"  # float32 [B]
SUPPORT_USED = "support_used"  # int32 [B], items of the support set that the model knows

PADDING = ""  # of string tensors, and past a row's own `k` in an answer


def version_of(name: str) -> int | None:
    """The version that a folder of this name holds; None where the name is no version's.

    A positive decimal number that fits the int64 of requests, in ASCII digits.
    """
    version = int(name) if name.isascii() and name.isdigit() else 0
    return version if 1 <= version < 2**63 else None


# Files beside the SavedModel, below `assets.extra/`.
EXTRA_ASSETS = "assets.extra"
WARM_UP_REQUESTS = "tf_serving_warmup_requests"
MODEL_CARD = "model_card.md"
FEATURE_SPEC = "feature_spec"  # a folder
CATALOGUE = "catalogue.parquet"  # item_id, and the attributes of the items table (title, ...)
