"""Windows of long texts, by hand and against the rule written out."""

import numpy as np

from keras_bert_tpu.tasks.windows import max_context, spans


def written_out(pieces, capacity, stride):
    """The loop of run_squad.py."""
    found, start = [], 0
    while start < pieces or not found:
        length = min(pieces - start, capacity)
        found.append((start, length))
        if start + length == pieces:
            break
        start += min(length, stride)
    return found


def best_window(found, position):
    """`_check_is_max_context` of run_squad.py."""
    best, best_score = None, None
    for index, (start, length) in enumerate(found):
        if start <= position < start + length:
            score = min(position - start, start + length - 1 - position) + 0.01 * length
            if best_score is None or score > best_score:
                best, best_score = index, score
    return best


def test_windows_overlap_and_the_last_one_ends_with_the_text():
    starts, lengths = spans(10, capacity=6, stride=3)
    assert starts.tolist() == [0, 3, 6] and lengths.tolist() == [6, 6, 4]
    # Pieces 3, 4 and 5 are in two windows; 4 has one piece beside it in both.
    assert max_context(spans(10, 6, 3), 10).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2]


def test_windows_and_contexts_are_those_of_the_rule_written_out():
    for pieces in range(40):
        for capacity in (1, 2, 5, 9, 30, 50):
            for stride in (1, 3, 4, 9, 60):
                found = spans(pieces, capacity, stride)
                expected = written_out(pieces, capacity, stride)
                assert list(zip(*found, strict=True)) == expected
                best = max_context(found, pieces)
                assert best.tolist() == [best_window(expected, p) for p in range(pieces)]
                assert best.dtype == np.int32
