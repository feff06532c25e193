"""Knowledge of text: BERT checkpoints in TensorFlow."""

from tfrec_meta.distillation.bert import BertEncoder

__all__ = ["BertEncoder"]
