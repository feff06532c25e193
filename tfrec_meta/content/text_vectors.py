"""Items with the vectors that a BERT has of their texts: what a text teacher knows them by."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tfrec_meta.content.bert import BertEncoder
from tfrec_meta.content.item_text import joined_texts
from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec, HashedText, Text, Vector

TEXT_VECTOR = "text_vector"


def text_columns(features: FeatureSpec) -> list[str]:
    """The texts among the features of items, by name."""
    return [one.name for one in features.item if isinstance(one, HashedText | Text)]


def with_text_vectors(
    data: Interactions,
    encoder: BertEncoder,
    columns: Sequence[str],
    progress: bool = False,
) -> Interactions:
    """The same interactions, with a column `text_vector` in the items table.

    Args:
        data: interactions.
        encoder: of texts.
        columns: of the items table, strings or lists of strings, joined by a blank in this order;
            a null counts as "".
        progress: whether to show a bar.

    Raises:
        ValueError: without an items table, or for a column that it lacks or that holds no strings.
    """
    items = data.items
    vectors = encoder.encode(joined_texts(items, columns), progress=progress)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    assert items is not None  # or there were no texts
    if TEXT_VECTOR in items.column_names:
        items = items.drop_columns([TEXT_VECTOR])
    return dataclasses.replace(data, items=items.append_column(TEXT_VECTOR, column))


def teacher_features(features: FeatureSpec, encoder: BertEncoder) -> FeatureSpec:
    """The features of a text teacher: the vector in place of the texts, all else as in `features`.

    Args:
        features: fitted; the result is so, too, and takes the same queries.
        encoder: of the texts.
    """
    texts = text_columns(features)
    own = [one for one in features.item if one.name not in texts]
    left_out = {f"item.{name}" for name in texts}
    return dataclasses.replace(
        features,
        item=(*own, Vector(TEXT_VECTOR, encoder.dimension)),
        vocabularies={k: v for k, v in features.vocabularies.items() if k not in left_out},
    )


def data_embedding(
    data: Interactions, description: str, encoder: BertEncoder | None = None, sample: int = 200
) -> list[float] | None:
    """What a data set is about: the mean vector of its description and of some of its items' texts.

    Args:
        data: whose items table is read: all columns of strings.
        description: in words; "" for none. It weighs as much as all items together.
        encoder: the packaged MiniLM by default.
        sample: items at most; the same ones each time.

    Returns:
        `encoder.dimension` numbers; None where there is neither description nor text.
    """
    columns = []
    if data.items is not None:
        columns = [
            field.name
            for field in data.items.schema
            if field.name != "item_id" and pa.types.is_string(field.type)
        ]
    texts: list[str] = []
    if columns and data.items is not None:
        rows = np.random.default_rng(0).permutation(len(data.items))[:sample]
        values = zip(*(data.items[name].take(rows).to_pylist() for name in columns), strict=True)
        texts = [text for row in values if (text := " ".join(filter(None, row)).strip())]
    if not texts and not description.strip():
        return None
    encoder = encoder or BertEncoder()
    parts = [encoder.encode([description])] if description.strip() else []
    if texts:
        parts.append(encoder.encode(texts).mean(axis=0, keepdims=True))
    return [float(value) for value in np.concatenate(parts).mean(axis=0)]
