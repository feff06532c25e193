"""A small hand-made model with the signatures of an exported recommender.

It has the items m1 to m6 and one known user, "u1", who prefers even items. `expected_scores`
computes its scores with NumPy. The signature `slow` answers after a number of seconds, for tests
that stop a server during a call.
"""

import os

import numpy as np
import tensorflow as tf

ITEMS = [f"m{i}" for i in range(1, 7)]
PRIOR = np.array([0.6, 0.5, 0.4, 0.3, 0.2, 0.1], np.float32)
VECTORS = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
USERS = {"u1": [0.0, 5.0]}
HISTORY_WIDTH, EXCLUDE_WIDTH, CANDIDATES = 4, 3, 4
# Default rows of the optional inputs.
BLANK_EXCLUDE = tf.constant([[""] * EXCLUDE_WIDTH])
TEN = tf.constant([10])
CALM = tf.constant([0.0])
NO_ITEM = tf.constant([""])
NO_IMAGE = tf.constant([[0.0, 0.0]])


def query(user_id, history, mood=0.0):
    """float32 [2]: the sum of the vectors of the user and of the known items, plus `mood`."""
    vector = np.array(USERS.get(user_id, [0.0, 0.0]), np.float32)
    for item in history:
        if item in ITEMS:
            vector = vector + VECTORS[ITEMS.index(item)]
    return vector + np.array([mood, 0.0], np.float32)


def expected_scores(user_id, history, mood=0.0):
    """float32 [6], the scores of all items."""
    return VECTORS @ query(user_id, history, mood) + PRIOR


def _checked(tensor, name, rank, width=None):
    wanted = "[B]" if rank == 1 else f"[B, {width}]"
    shape = tf.shape(tensor)
    fits = tf.equal(tf.size(shape), rank)
    if width is not None:
        fits = fits & tf.reduce_all(tf.equal(shape[-1:], [width]))
    with tf.control_dependencies(
        [tf.debugging.Assert(fits, [f"{name} must be {wanted}, is", shape])]
    ):
        # Not `ensure_shape`: once optimised, it fails before the assertion.
        return tf.reshape(tensor, [-1] if rank == 1 else [-1, width])


def _spec(dtype, name):
    return tf.TensorSpec(None, dtype, name=name)


class ToyMovies(tf.Module):
    def __init__(self, history_width=HISTORY_WIDTH):
        super().__init__()
        self.history_width = history_width
        self.vectors = tf.Variable(VECTORS)
        self.items = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(ITEMS, tf.range(len(ITEMS))), -1
        )
        self.users = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(list(USERS), tf.range(len(USERS))), len(USERS)
        )
        self.user_vectors = tf.Variable(np.array([*USERS.values(), [0, 0]], np.float32))

    def _query(self, user_id, history, mood):
        rows = self.items.lookup(history)
        vectors = (
            tf.gather(self.vectors, tf.maximum(rows, 0)) * tf.cast(rows >= 0, tf.float32)[..., None]
        )
        user = tf.gather(self.user_vectors, self.users.lookup(user_id))
        return user + tf.reduce_sum(vectors, 1) + tf.stack([mood, tf.zeros_like(mood)], 1)

    def _side(self, user_id, history, mood):
        user_id = _checked(user_id, "user_id", 1)
        batch = tf.shape(user_id)[0]
        history = _checked(history, "history", 2, self.history_width)
        history = tf.broadcast_to(history, [batch, self.history_width])
        mood = tf.broadcast_to(_checked(mood, "mood", 1), [batch])
        return self._query(user_id, history, mood), history, batch

    def signatures(self):
        blank_history = tf.constant([[""] * self.history_width])

        @tf.function(
            input_signature=[
                _spec(tf.string, "user_id"),
                _spec(tf.string, "history"),
                _spec(tf.string, "exclude"),
                _spec(tf.int32, "k"),
                _spec(tf.float32, "mood"),
            ]
        )
        def recommend(
            user_id,
            history=blank_history,
            exclude=BLANK_EXCLUDE,
            k=TEN,
            mood=CALM,
        ):
            query_vector, history, batch = self._side(user_id, history, mood)
            exclude = tf.broadcast_to(
                _checked(exclude, "exclude", 2, EXCLUDE_WIDTH), [batch, EXCLUDE_WIDTH]
            )
            k = tf.broadcast_to(_checked(k, "k", 1), [batch])
            return self._best(query_vector, tf.concat([history, exclude], 1), k)

        @tf.function(
            input_signature=[
                _spec(tf.string, "user_id"),
                _spec(tf.string, "item_id"),
                _spec(tf.string, "history"),
                _spec(tf.float32, "mood"),
            ]
        )
        def rank(user_id, item_id, history=blank_history, mood=CALM):
            query_vector, _, _ = self._side(user_id, history, mood)
            rows = self.items.lookup(_checked(item_id, "item_id", 2, CANDIDATES))
            scores = tf.gather(self._scores(query_vector), tf.maximum(rows, 0), batch_dims=1)
            return {"score": tf.where(rows >= 0, scores, tf.fill(tf.shape(rows), -1.0))}

        @tf.function(
            input_signature=[
                _spec(tf.string, "user_id"),
                _spec(tf.string, "history"),
                _spec(tf.float32, "mood"),
            ]
        )
        def embed_query(user_id, history=blank_history, mood=CALM):
            return {"embedding": self._side(user_id, history, mood)[0]}

        @tf.function(input_signature=[_spec(tf.string, "item_id"), _spec(tf.float32, "image")])
        def embed_item(item_id=NO_ITEM, image=NO_IMAGE):
            rows = self.items.lookup(_checked(item_id, "item_id", 1))
            known = (
                tf.gather(self.vectors, tf.maximum(rows, 0))
                * tf.cast(rows >= 0, tf.float32)[:, None]
            )
            return {"embedding": known + _checked(image, "image", 2, 2)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def serving_default(examples):
            parsed = tf.io.parse_example(
                examples, {"user_id": tf.io.FixedLenFeature([], tf.string, "")}
            )
            batch = tf.shape(examples)[0]
            query_vector = self._query(
                parsed["user_id"], tf.fill([batch, self.history_width], ""), tf.zeros([batch])
            )
            return self._best(query_vector, tf.fill([batch, 1], ""), tf.fill([batch], 3))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def rank_examples(examples):
            parsed = tf.io.parse_example(
                examples,
                {
                    "user_id": tf.io.FixedLenFeature([], tf.string, ""),
                    "item_id": tf.io.FixedLenFeature([], tf.string),
                    "mood": tf.io.FixedLenFeature([], tf.float32, 0.0),
                },
            )
            batch = tf.shape(examples)[0]
            query_vector = self._query(
                parsed["user_id"], tf.fill([batch, self.history_width], ""), parsed["mood"]
            )
            rows = tf.maximum(self.items.lookup(parsed["item_id"]), 0)
            return {"score": tf.gather(self._scores(query_vector), rows, batch_dims=1)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float64, name="seconds")])
        def slow(seconds):
            end = tf.timestamp() + seconds[0]
            rounds = tf.while_loop(
                lambda n: tf.timestamp() < end, lambda n: [n + 1], [tf.constant(0)]
            )
            return {"rounds": tf.fill(tf.shape(seconds), rounds[0])}

        return {
            f.python_function.__name__: f
            for f in (
                recommend,
                rank,
                embed_query,
                embed_item,
                serving_default,
                rank_examples,
                slow,
            )
        }

    def _scores(self, query_vector):
        return tf.matmul(query_vector, self.vectors, transpose_b=True) + PRIOR

    def _best(self, query_vector, left_out, k):
        out = tf.reduce_any(left_out[:, :, None] == tf.constant(ITEMS), 1)
        scores = tf.where(out, -np.inf, self._scores(query_vector))
        widest = tf.clip_by_value(tf.reduce_max(tf.concat([k, [0]], 0)), 0, len(ITEMS))
        values, rows = tf.math.top_k(scores, widest)
        shown = (tf.range(widest)[None] < k[:, None]) & (values > -np.inf)
        return {
            "item_id": tf.where(shown, tf.gather(tf.constant(ITEMS), rows), ""),
            "score": tf.where(shown, values, -np.inf),
        }


def save(folder, history_width=HISTORY_WIDTH):
    """Writes the SavedModel, its catalogue and its warm-up requests to `folder`."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    model = ToyMovies(history_width)
    model.functions = model.signatures()
    tf.saved_model.save(model, str(folder), signatures=model.functions)
    extra = os.path.join(folder, "assets.extra")
    os.makedirs(extra)
    pq.write_table(
        pa.table(
            {
                "item_id": ITEMS,
                "title": [f"Film {i}" for i in range(1, 6)] + [None],
                "year": [1991, 1992, 1993, 1994, 1995, None],
            }
        ),
        os.path.join(extra, "catalogue.parquet"),
    )
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "movies"
    request.model_spec.signature_name = "recommend"
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["u1"]))
    entry = prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )
    with tf.io.TFRecordWriter(os.path.join(extra, "tf_serving_warmup_requests")) as writer:
        writer.write(entry.SerializeToString())


if __name__ == "__main__":
    import sys

    save(sys.argv[1])
