"""Adds BERT vectors of item texts to data and features, for text teachers."""

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
    """Returns the names of the item features that are texts."""
    return [one.name for one in features.item if isinstance(one, HashedText | Text)]


def with_text_vectors(
    data: Interactions,
    encoder: BertEncoder,
    columns: Sequence[str],
    progress: bool = False,
) -> Interactions:
    """Returns the same interactions with a column `text_vector` in the items table.

    Args:
        data: interactions with an items table.
        encoder: encodes the texts.
        columns: columns of the items table that make up a text; see `joined_texts`.
        progress: whether to show a progress bar.

    Raises:
        ValueError: see `joined_texts`.
    """
    items = data.items
    vectors = encoder.encode(joined_texts(items, columns), progress=progress)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    assert items is not None  # otherwise `joined_texts` raised
    if TEXT_VECTOR in items.column_names:
        items = items.drop_columns([TEXT_VECTOR])
    return dataclasses.replace(data, items=items.append_column(TEXT_VECTOR, column))


def teacher_features(features: FeatureSpec, encoder: BertEncoder) -> FeatureSpec:
    """Returns the features of a text teacher: the text vector in place of the text features.

    Args:
        features: a fitted spec. The result is fitted, too, and has the same query features.
        encoder: encodes the texts.
    """
    texts = text_columns(features)
    others = [one for one in features.item if one.name not in texts]
    left_out = {f"item.{name}" for name in texts}
    return dataclasses.replace(
        features,
        item=(*others, Vector(TEXT_VECTOR, encoder.dimension)),
        vocabularies={k: v for k, v in features.vocabularies.items() if k not in left_out},
    )


def data_embedding(
    data: Interactions, description: str, encoder: BertEncoder | None = None, sample: int = 200
) -> list[float] | None:
    """Returns a vector of a data set's subject, from its description and the texts of some items.

    Args:
        data: interactions; all string columns of the items table are read.
        description: the subject in words, or "". It has the same weight as all items together.
        encoder: the packaged MiniLM by default.
        sample: largest number of items; every call draws the same ones.

    Returns:
        `encoder.dimension` numbers; None if there is neither a description nor a text.
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
