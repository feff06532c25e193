"""Warm-up requests of an exported model."""

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tfrec_meta.export import signatures as names


def test_warm_up_requests_name_the_model_and_run_its_signatures(folder, family):
    path = folder / names.EXTRA_ASSETS / names.WARM_UP_REQUESTS
    loaded = tf.saved_model.load(str(folder))
    signatures = []
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == family
        if names.USER_ID in request.inputs:
            assert tf.make_ndarray(request.inputs[names.USER_ID]).tolist() == [b""]
        signatures.append(request.model_spec.signature_name)
        inputs = {name: tf.constant(tf.make_ndarray(t)) for name, t in request.inputs.items()}
        loaded.signatures[signatures[-1]](**inputs)
    expected = {names.RECOMMEND, names.RANK, names.ADAPT} & set(loaded.signatures)
    assert set(signatures) == expected
