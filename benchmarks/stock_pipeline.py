"""The peer of `benchmarks.pipeline`: TFX's own components, connected as in its tutorials.

One CSV of joined rows, CsvExampleGen with its hash split, statistics, inferred schema, validator,
Transform with vocabularies, a KerasTuner over given settings, a Trainer of TFRS's two-tower
tutorial model, the latest blessed model, TFMA's Evaluator on a dot product, and the Pusher, run by
LocalDagRunner in one process. Of this library only the choice of Keras 2 is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras_tuner
import tensorflow as tf
import tensorflow_model_analysis as tfma
import tensorflow_recommenders as tfrs
import tensorflow_transform as tft
import tfx.v1 as tfx
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.tuner.component import TunerFnResult
from tfx_bsl.public import tfxio

from tfrec_meta.keras import tf_keras

IDS = ("user_id", "item_id")
CATEGORIES = ("gender", "occupation", "title")
NUMBERS = ("age", "year")
POSITIVE = 4.0  # a rating from which TFMA counts an event as a positive
OBJECTIVE = "val_factorized_top_k/top_100_categorical_accuracy"


def preprocessing_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    """Ids and categories to integers, numbers to z-scores, as in TFX's Transform tutorial."""
    outputs = {}
    for name in (*IDS, *CATEGORIES):
        outputs[name] = tft.compute_and_apply_vocabulary(
            _dense(inputs[name], ""), num_oov_buckets=1, vocab_filename=name
        )
    for name in NUMBERS:
        outputs[name] = tft.scale_to_z_score(tf.cast(_dense(inputs[name], 0), tf.float32))
    outputs["label"] = tf.cast(_dense(inputs["value"], 0), tf.float32)
    return outputs


def _dense(column: Any, default: Any) -> Any:
    if not isinstance(column, tf.SparseTensor):
        return tf.squeeze(column, axis=1)
    filled = tf.sparse.to_dense(
        tf.SparseTensor(column.indices, column.values, [column.dense_shape[0], 1]),
        tf.cast(default, column.dtype) if column.dtype != tf.string else default,
    )
    return tf.squeeze(filled, axis=1)


class TwoTower(tfrs.Model):
    """The two towers of TFRS's retrieval tutorial: one embedding each."""

    def __init__(self, users: int, items: int, dimension: int):
        super().__init__()
        self.user_tower = tf_keras.Sequential([tf_keras.layers.Embedding(users, dimension)])
        self.item_tower = tf_keras.Sequential([tf_keras.layers.Embedding(items, dimension)])
        candidates = tf.data.Dataset.range(items).batch(128).map(self.item_tower)
        self.task = tfrs.tasks.Retrieval(metrics=tfrs.metrics.FactorizedTopK(candidates))

    def compute_loss(self, features: dict[str, Any], training: bool = False) -> Any:
        return self.task(
            self.user_tower(features["user_id"]),
            self.item_tower(features["item_id"]),
            compute_metrics=not training,
        )


def _model(transform: tft.TFTransformOutput, trial: dict[str, Any]) -> TwoTower:
    sizes = [transform.vocabulary_size_by_name(name) + 1 for name in IDS]
    model = TwoTower(*sizes, trial["embedding_dim"])
    model.compile(optimizer=tf_keras.optimizers.Adam(trial["learning_rate"]))
    return model


def _data(arguments: FnArgs, files: Any, batch: int) -> tf.data.Dataset:
    schema = tft.TFTransformOutput(arguments.transform_graph_path).transformed_metadata.schema
    options = tfxio.TensorFlowDatasetOptions(batch_size=batch, num_epochs=1)
    rows = arguments.data_accessor.tf_dataset_factory(files, options, schema)
    return rows.map(lambda row: {name: row[name] for name in IDS}).cache()


class _Tuner(keras_tuner.GridSearch):
    """A grid over the given settings, since batch size and epochs are no part of a Keras model."""

    def __init__(self, arguments: FnArgs):
        self._arguments = arguments
        self._trials = arguments.custom_config["trials"]
        transform = tft.TFTransformOutput(arguments.transform_graph_path)
        super().__init__(
            lambda parameters: _model(transform, self._trial(parameters)),
            objective=keras_tuner.Objective(OBJECTIVE, "max"),
            max_trials=len(self._trials),
            directory=arguments.working_dir,
            project_name="search",
        )

    def _trial(self, parameters: keras_tuner.HyperParameters) -> dict[str, Any]:
        return self._trials[parameters.Int("trial", 0, len(self._trials) - 1)]

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        chosen = self._trial(trial.hyperparameters)
        model = self.hypermodel.build(trial.hyperparameters)
        curve = _fit(model, self._arguments, chosen, verbose=0)
        return {OBJECTIVE: max(curve.history[OBJECTIVE])}


def _fit(model: TwoTower, arguments: FnArgs, trial: dict[str, Any], verbose: int = 2) -> Any:
    epochs, once = trial["epochs"], arguments.custom_config["validate"] == "once"
    best = tf_keras.callbacks.EarlyStopping(
        OBJECTIVE, mode="max", patience=trial["patience"], restore_best_weights=True
    )
    return model.fit(
        _data(arguments, arguments.train_files, trial["batch_size"]),
        epochs=epochs,
        validation_data=_data(arguments, arguments.eval_files, 4096),
        validation_freq=epochs if once else 1,
        callbacks=[] if once else [best],
        verbose=verbose,
    )


def tuner_fn(arguments: FnArgs) -> TunerFnResult:
    return TunerFnResult(tuner=_Tuner(arguments), fit_kwargs={})


def run_fn(arguments: FnArgs) -> None:
    best = keras_tuner.HyperParameters.from_config(arguments.hyperparameters)
    trial = arguments.custom_config["trials"][best.get("trial")]
    transform = tft.TFTransformOutput(arguments.transform_graph_path)
    model = _model(transform, trial)
    _fit(model, arguments, trial)
    items = tf.range(transform.vocabulary_size_by_name("item_id"), dtype=tf.int64)
    index = tfrs.layers.factorized_top_k.BruteForce(model.user_tower, k=10)
    index.index(model.item_tower(items), items)
    index(tf.zeros([1], tf.int64))
    served = tf.Module()  # without the metrics, whose data set of candidates can't be saved
    served.index, served.towers = index, (model.user_tower, model.item_tower)
    served.features = transform.transform_features_layer()
    raw = transform.raw_feature_spec()

    def encoded(examples: tf.Tensor, names: tuple[str, ...]) -> dict[str, tf.Tensor]:
        return served.features(tf.io.parse_example(examples, {name: raw[name] for name in names}))

    every = (*IDS, *CATEGORIES, *NUMBERS, "value")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def recommend(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        score, item = served.index(encoded(examples, every)["user_id"])
        return {"item": item, "score": score}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def rank(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = encoded(examples, every)
        product = model.user_tower(rows["user_id"]) * model.item_tower(rows["item_id"])
        return {"score": tf.sigmoid(tf.reduce_sum(product, axis=1))}

    tf.saved_model.save(
        served,
        arguments.serving_model_dir,
        signatures={"serving_default": recommend, "rank_examples": rank},
    )


def create(
    folder: Path, rows: Path, trials: list[dict[str, Any]], validate: str
) -> tfx.dsl.Pipeline:
    """The pipeline over the folder `rows` of one CSV; everything it writes is below `folder`.

    Args:
        folder: for artifacts, metadata and the pushed model.
        rows: of the CSV.
        trials: `embedding_dim`, `learning_rate`, `batch_size`, `epochs` and `patience` of each.
        validate: "each" epoch, with early stopping, or "once" after the last.
    """
    examples = tfx.components.CsvExampleGen(input_base=str(rows))
    statistics = tfx.components.StatisticsGen(examples=examples.outputs["examples"])
    schema = tfx.components.SchemaGen(statistics=statistics.outputs["statistics"])
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    transform = tfx.components.Transform(
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn="benchmarks.stock_pipeline.preprocessing_fn",
    )
    learnt: dict[str, Any] = {
        "examples": transform.outputs["transformed_examples"],
        "transform_graph": transform.outputs["transform_graph"],
        "train_args": tfx.proto.TrainArgs(num_steps=1),
        "eval_args": tfx.proto.EvalArgs(num_steps=1),
        "custom_config": {"trials": trials, "validate": validate},
    }
    tuner = tfx.components.Tuner(tuner_fn="benchmarks.stock_pipeline.tuner_fn", **learnt)
    trainer = tfx.components.Trainer(
        run_fn="benchmarks.stock_pipeline.run_fn",
        hyperparameters=tuner.outputs["best_hyperparameters"],
        schema=schema.outputs["schema"],
        **learnt,
    )
    blessed = tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
    ).with_id("latest_blessed_model")
    judged = tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(signature_name="rank_examples", label_key="value")],
        slicing_specs=[tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=["gender"])],
        metrics_specs=[
            tfma.MetricsSpec(
                metrics=[
                    tfma.MetricConfig(class_name="ExampleCount"),
                    tfma.MetricConfig(class_name="MeanPrediction"),
                    tfma.MetricConfig(class_name="MeanLabel"),
                ]
            )
        ],
    )
    evaluator = tfx.components.Evaluator(
        examples=examples.outputs["examples"],
        example_splits=["eval"],
        model=trainer.outputs["model"],
        baseline_model=blessed.outputs["model"],
        eval_config=judged,
    )
    pusher = tfx.components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=str(folder / "serving"))
        ),
    )
    metadata = folder / "metadata.sqlite"
    return tfx.dsl.Pipeline(
        pipeline_name="stock",
        pipeline_root=str(folder / "artifacts"),
        components=[
            examples,
            statistics,
            schema,
            validator,
            transform,
            tuner,
            trainer,
            blessed,
            evaluator,
            pusher,
        ],
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(metadata)
        ),
        enable_cache=True,
    )
