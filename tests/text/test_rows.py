import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies

from keras_bert_tpu.config import InputError
from keras_bert_tpu.text.rows import join_rows, longest_first_trim
from keras_bert_tpu.text.vocabulary import Vocabulary

# [PAD] is not 0 here, so that no zero can stand in for it.
VOCABULARY = Vocabulary(["x", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "a", "b"])
UNK, CLS, SEP, PAD = 1, 2, 3, 5


def ragged(*rows: list[int]) -> tf.RaggedTensor:
    return tf.ragged.constant(rows, dtype=tf.int32, ragged_rank=1)


def truncate_one_by_one(first: list, second: list, length: int) -> tuple[list, list]:
    """The rule as Google states it: drop the last piece of the longer one, until they fit."""
    first, second = list(first), list(second)
    while len(first) + len(second) > length:
        (first if len(first) > len(second) else second).pop()
    return first, second


def test_trimming_takes_from_the_longer_segment():
    first = ragged([1, 2, 3, 4, 5], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7, 8, 9], [1], [])
    second = ragged([6, 7, 8], [6, 7, 8, 9], [6], [7, 8, 9, 6, 5, 4, 3], [6, 7])
    a, b = longest_first_trim([first, second], 6)
    assert a.to_list() == [[1, 2, 3], [1, 2, 3], [1, 2, 3, 4, 5], [1], []]
    assert b.to_list() == [[6, 7, 8], [6, 7, 8], [6], [7, 8, 9, 6, 5], [6, 7]]
    a, b = longest_first_trim([first, second], 7)
    assert a.to_list()[1] == [1, 2, 3, 4]
    assert b.to_list()[1] == [6, 7, 8]


def test_trimming_is_googles_rule_for_all_lengths():
    pairs = [(m, n) for m in range(9) for n in range(9)]
    first = ragged(*(list(range(m)) for m, _ in pairs))
    second = ragged(*(list(range(100, 100 + n)) for _, n in pairs))
    for length in range(17):
        a, b = longest_first_trim([first, second], tf.constant(length))
        found = list(zip(a.to_list(), b.to_list(), strict=True))
        assert found == [
            truncate_one_by_one(range(m), range(100, 100 + n), length) for m, n in pairs
        ]


# Rows of one or two segments: how many pieces each row has in each.
LENGTHS = strategies.integers(1, 2).flatmap(
    lambda segments: strategies.lists(
        strategies.tuples(*[strategies.integers(0, 30)] * segments), max_size=6
    ).map(lambda rows: (segments, rows))
)


def numbered(segments: int, rows: list[tuple[int, ...]]) -> list[list[list[int]]]:
    """The pieces of each segment, row by row, all of them different."""
    return [
        [[1000 * segment + 100 + place for place in range(row[segment])] for row in rows]
        for segment in range(segments)
    ]


@settings(derandomize=True, max_examples=50, deadline=None)
@given(lengths=LENGTHS, room=strategies.integers(0, 70))
def test_trimming_is_that_of_one_piece_at_a_time(lengths, room):
    segments, rows = lengths
    pieces = numbered(segments, rows)
    trimmed = longest_first_trim([ragged(*rows) for rows in pieces], room)
    expected = [
        truncate_one_by_one(*row, room) if segments == 2 else (row[0][:room],)
        for row in zip(*pieces, strict=True)
    ]
    assert list(zip(*(segment.to_list() for segment in trimmed), strict=True)) == expected


@settings(derandomize=True, max_examples=50, deadline=None)
@given(lengths=LENGTHS, sequence_length=strategies.integers(5, 70))
def test_joined_rows_hold_the_trimmed_segments_and_nothing_else(lengths, sequence_length):
    segments, lengths_of_rows = lengths
    given_segments = [ragged(*rows) for rows in numbered(segments, lengths_of_rows)]
    room = sequence_length - segments - 1
    trimmed = [segment.to_list() for segment in longest_first_trim(given_segments, room)]
    rows = join_rows(given_segments, VOCABULARY, sequence_length)
    rows = {name: values.numpy().tolist() for name, values in rows.items()}
    assert [len(values) for values in rows.values()] == [len(lengths_of_rows)] * 3
    for index, lengths_of_row in enumerate(lengths_of_rows):
        tokens = [CLS]
        segment_ids = [0]
        for number in range(segments):
            tokens += [*trimmed[number][index], SEP]
            segment_ids += [number] * (len(trimmed[number][index]) + 1)
        # Nothing is cut from a row that fits, and one that does not is full.
        assert len(tokens) == min(sum(lengths_of_row) + segments + 1, sequence_length)
        padding = sequence_length - len(tokens)
        assert rows["token_ids"][index] == tokens + [PAD] * padding
        assert rows["segment_ids"][index] == segment_ids + [0] * padding
        assert rows["padding_mask"][index] == [1] * len(tokens) + [0] * padding


def test_one_segment_is_cut_at_the_end():
    (trimmed,) = longest_first_trim([ragged([1, 2, 3], [1], [])], 2)
    assert trimmed.to_list() == [[1, 2], [1], []]


def test_a_row_of_one_segment():
    rows = join_rows([ragged([6, 7], [], [6, 7, 6, 7, 6])], VOCABULARY, 6)
    assert rows["token_ids"].numpy().tolist() == [
        [CLS, 6, 7, SEP, PAD, PAD],
        [CLS, SEP, PAD, PAD, PAD, PAD],
        [CLS, 6, 7, 6, 7, SEP],
    ]
    assert rows["segment_ids"].numpy().tolist() == [[0] * 6] * 3
    assert rows["padding_mask"].numpy().tolist() == [
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1],
    ]


def test_a_row_of_two_segments():
    first, second = ragged([6], [6, 7, 6, 7, 6], []), ragged([7, 7], [7], [6])
    rows = join_rows([first, second], VOCABULARY, 8)
    assert rows["token_ids"].numpy().tolist() == [
        [CLS, 6, SEP, 7, 7, SEP, PAD, PAD],
        [CLS, 6, 7, 6, 7, SEP, 7, SEP],
        [CLS, SEP, 6, SEP, PAD, PAD, PAD, PAD],
    ]
    assert rows["segment_ids"].numpy().tolist() == [
        [0, 0, 0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 1],
        [0, 0, 1, 1, 0, 0, 0, 0],
    ]
    assert rows["padding_mask"].numpy().tolist() == [
        [1, 1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 0, 0, 0, 0],
    ]


def test_shapes_are_static_in_a_dataset_and_types_int32():
    dataset = tf.data.Dataset.from_tensors(ragged([6], [7, 7]))
    for segments in (1, 2):
        spec = dataset.map(
            lambda ids, n=segments: join_rows([tf.cast(ids, tf.int64)] * n, VOCABULARY, 16)
        ).element_spec
        assert sorted(spec) == ["padding_mask", "segment_ids", "token_ids"]
        for tensor in spec.values():
            assert tensor.dtype == tf.int32
            assert tensor.shape.rank == 2
            assert tensor.shape[1] == 16


def test_only_operations_of_tensorflow_itself_are_used():
    function = tf.function(lambda a, b: join_rows([a, b], VOCABULARY, 16))
    graph = function.get_concrete_function(
        *[tf.RaggedTensorSpec([None, None], tf.int32, ragged_rank=1)] * 2
    ).graph
    names = {operation.type for operation in graph.get_operations()}
    assert "RaggedTensorToTensor" in names
    assert not [name for name in names if "Trim" in name or "Text>" in name or "TFText" in name]


def test_wrong_numbers_are_input_errors():
    ids = ragged([6])
    with pytest.raises(InputError, match="one or two segments. Received: 3"):
        longest_first_trim([ids] * 3, 10)
    with pytest.raises(InputError, match="one or two segments. Received: 0"):
        join_rows([], VOCABULARY, 10)
    with pytest.raises(InputError, match="at least 3 for 1 segments .* Received: 2"):
        join_rows([ids], VOCABULARY, 2)
    with pytest.raises(InputError, match="at least 5 for 2 segments .* Received: 4"):
        join_rows([ids, ids], VOCABULARY, 4)
