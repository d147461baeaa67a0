import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_bert_tpu.pretraining_data.example_encoding import encode_examples


def serialized(row):
    """What protocol buffers make of one example."""
    example = tf.train.Example()
    for name, values in row.items():
        feature = example.features.feature[name]
        kind = feature.float_list if values.dtype == np.float32 else feature.int64_list
        kind.value.extend(values.tolist())
    return example.SerializeToString(deterministic=True)


# Numbers at which a varint takes one more byte, and their neighbours.
BORDERS = sorted({max(0, 2**bits + step) for bits in (0, 7, 14, 21, 28) for step in (-1, 0, 1)})


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    data=st.data(),
    rows=st.integers(0, 4),
    width=st.sampled_from([1, 2, 20, 127, 128, 300]),
    largest=st.sampled_from([1, 127, 128, 30521, 2**31 - 1]),
)
def test_the_bytes_are_those_of_protocol_buffers(data, rows, width, largest):
    seed = data.draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    features = {
        "input_ids": rng.integers(0, largest + 1, (rows, width)).astype(np.int32),
        "borders": rng.choice([b for b in BORDERS if b <= largest], (rows, width)),
        "weights": rng.normal(size=(rows, 20)).astype(np.float32),
        "a_label": rng.integers(0, 2, (rows, 1)),
    }
    expected = [serialized({name: v[row] for name, v in features.items()}) for row in range(rows)]
    assert encode_examples(features) == expected


@pytest.mark.parametrize("value", [-1, 2**31])
def test_a_number_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match=f"ids must be from 0 to .* {value}"):
        encode_examples({"ids": np.array([[0, value]])})


def test_arrays_of_different_length_or_shape_are_refused():
    with pytest.raises(ValueError):
        encode_examples({"a": np.zeros((2, 1), int), "b": np.zeros((3, 1), int)})
    with pytest.raises(ValueError, match="a must be an array .* shape"):
        encode_examples({"a": np.zeros(2, int)})
