"""Masked-language-model targets as TensorFlow operations: the same rules on disk and on the fly.

What is chosen, of the tokens that are neither padding nor [CLS] or [SEP]:

- pieces: uniformly, without replacement (`create_masked_lm_predictions` in Google's
  create_pretraining_data.py; BERT paper, section 3.1, task 1);
- whole words: in random order, as many as there is room for; one for which there is none is
  skipped (the same function, with `do_whole_word_mask`);
- runs of words: the rule of `_masking_ngrams` in create_pretraining_data.py of the TensorFlow Model
  Garden. See `_choose_words`.

All randomness derives from one key for each row (see `keyed_random`), so what becomes of a row
depends on its own tokens and key, and not on the rows beside it.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data import keyed_random
from keras_bert_tpu.text.vocabulary import Vocabulary

# Of the chosen pieces, 80 % become [MASK], 10 % stay and 10 % become a random piece (BERT paper,
# appendix A.1).
MASK_SHARE = 0.8
KEEP_SHARE = 0.1

# What became of a prediction; 0 is padding.
MASKED, KEPT, RANDOM = 1, 2, 3

# Folded into a row's key, so that each purpose has numbers of its own. For runs of words, the
# number of words is folded in after _ORDER.
_ORDER, _RUN_LENGTHS, _KINDS, _RANDOM_PIECES = range(4)

# A run of s words is drawn with a weight of 1 / s; as integers, so that sums are exact everywhere.
_WEIGHT_OF_ONE = 2**24


@dataclasses.dataclass(frozen=True, eq=False)
class MaskRules:
    """What `draw_masks` goes by.

    Attributes:
        mask_rate: float. Share of the real tokens, [CLS] and [SEP] counted, that is chosen.
        max_predictions: int. Most tokens chosen in a row, and the width of the results.
        whole_words: bool. Whether all pieces of a word are chosen together.
        max_ngram: int. Longest run of words chosen together; above 1 only with `whole_words`.
        replacement: str. Whether [MASK], the original or a random piece takes a chosen place is
            drawn for each "piece" or for each "gram" (word or run of words).
        mask_id: int. Id of [MASK].
        never_chosen: tuple of int. Ids that are never chosen: [CLS] and [SEP].
        random_ids: int32 array [choices]. A random piece is one of these, each as likely.
        continues_word: bool array [vocab_size]. Whether a piece continues the word before it.
    """

    mask_rate: float
    max_predictions: int
    whole_words: bool
    max_ngram: int
    replacement: str
    mask_id: int
    never_chosen: tuple[int, ...]
    random_ids: np.ndarray
    continues_word: np.ndarray

    @classmethod
    def from_config(cls, config: DataConfig, vocabulary: Vocabulary) -> "MaskRules":
        """Returns the rules that a configuration asks for.

        Args:
            config: DataConfig.
            vocabulary: Vocabulary.

        Raises:
            InputError: If a random piece can be none, as the vocabulary has special tokens only.
        """
        random_ids = np.arange(len(vocabulary), dtype=np.int32)
        if not config.random_specials:
            random_ids = np.setdiff1d(random_ids, vocabulary.special_ids).astype(np.int32)
        if not len(random_ids):
            raise InputError(
                f"The vocabulary of {len(vocabulary)} pieces has special tokens only, and with "
                f"random_specials=False a random piece must be another; give a vocabulary with "
                f"more pieces."
            )
        return cls(
            mask_rate=config.mask_rate,
            max_predictions=config.max_predictions,
            whole_words=config.whole_word_mask,
            max_ngram=config.max_ngram,
            replacement=config.replacement,
            mask_id=vocabulary.mask_id,
            never_chosen=(vocabulary.cls_id, vocabulary.sep_id),
            random_ids=random_ids,
            continues_word=np.array([piece.startswith("##") for piece in vocabulary.pieces]),
        )


class Masks(NamedTuple):
    """Rows with masks.

    Attributes:
        token_ids: int32 [n, length]. With the chosen tokens replaced.
        mask_positions: int32 [n, max_predictions]. Ascending, then 0 as padding.
        mask_ids: int32 [n, max_predictions]. The original tokens there, then 0.
        mask_weights: float32 [n, max_predictions]. 1 for a prediction, 0 for padding.
        mask_kinds: int32 [n, max_predictions]. MASKED, KEPT or RANDOM; 0 for padding.
    """

    token_ids: tf.Tensor
    mask_positions: tf.Tensor
    mask_ids: tf.Tensor
    mask_weights: tf.Tensor
    mask_kinds: tf.Tensor


def num_predictions(length: int, mask_rate: float, max_predictions: int) -> int:
    """How many tokens of a row are chosen: min(max_predictions, max(1, round(length x rate))).

    Args:
        length: int. Real tokens, [CLS] and [SEP] counted.
        mask_rate: float.
        max_predictions: int.

    Returns:
        int. Halves are rounded to the even neighbour, as Python's `round` does.
    """
    return min(max_predictions, max(1, round(length * mask_rate)))


def draw_masks(
    token_ids: Any,
    padding_mask: Any,
    keys: Any,
    rules: MaskRules,
    continues_word: Any = None,
    position_ids: Any = None,
) -> Masks:
    """Chooses tokens at random, replaces them and keeps the originals as targets.

    Runs eagerly, in a `tf.function` and in tf.data. There may be fewer predictions than
    `num_predictions`: where a row has fewer tokens to choose from, and where no word is left that
    is short enough. Row i of the results is a function of row i of the arguments.

    Args:
        token_ids: int32 [n, length], the length static.
        padding_mask: int32 [n, length]. 1 = real token.
        keys: int64 or uint64 [n]. The randomness of each row.
        rules: MaskRules.
        continues_word: bool or int [n, length], or None. Whether a token continues the word before
            it, in place of what `rules.continues_word` says of the piece. Without meaning unless
            `rules.whole_words`.
        position_ids: int32 [n, length], or None. Of rows that hold several sequences, which begin
            with 0: tokens are chosen of the row as a whole, and no word goes on into another
            sequence.

    Returns:
        Masks.

    Raises:
        InputError: If the length is not static.
    """
    token_ids = tf.convert_to_tensor(token_ids, tf.int32)
    length = token_ids.shape[1]
    if length is None:
        raise InputError(
            f"token_ids must have a static length. Received a tensor of shape {token_ids.shape}; "
            f"set its shape with tf.ensure_shape."
        )
    keys = keyed_random.fold_in(tf.convert_to_tensor(keys))
    is_real = tf.convert_to_tensor(padding_mask) == 1
    candidates = is_real
    for special_id in rules.never_chosen:
        candidates &= token_ids != special_id
    # By Python's own arithmetic for each length there is, so that halves are rounded as it does.
    by_length = [
        num_predictions(number, rules.mask_rate, rules.max_predictions)
        for number in range(length + 1)
    ]
    wanted = tf.gather(by_length, tf.math.count_nonzero(is_real, axis=1, dtype=tf.int32))

    if rules.whole_words:
        if continues_word is None:
            continues_word = tf.gather(tf.constant(rules.continues_word), token_ids)
        continues_word = tf.cast(continues_word, tf.bool)
        # The first candidate of a sequence starts a word even if it continues one that was cut
        # off. So it is with one behind a [SEP] where part b was truncated from the front: Google's
        # rule counts it to the last word of part a, the Model Garden's to none, as runs are
        # contiguous.
        is_first = tf.cumsum(tf.cast(candidates, tf.int32), axis=1) == 1
        if position_ids is not None:
            is_first |= tf.convert_to_tensor(position_ids) == 1
        starts = candidates & (~continues_word | is_first)
        gram_of_token = _choose_grams(candidates, starts, keys, wanted, rules.max_ngram)
    else:
        gram_of_token = _choose_pieces(candidates, keys, wanted, rules.max_predictions)
    return _replace(token_ids, gram_of_token, keys, rules)


def _choose_pieces(
    candidates: tf.Tensor, keys: tf.Tensor, wanted: tf.Tensor, max_predictions: int
) -> tf.Tensor:
    """Chooses pieces; returns int32 [n, length], the position + 1 where chosen and 0 elsewhere."""
    length = candidates.shape[1]
    order = _random_order(candidates, keys, min(max_predictions, length))
    available = tf.math.count_nonzero(candidates, axis=1, dtype=tf.int32)
    taken = tf.sequence_mask(tf.minimum(wanted, available), order.shape[1])
    places = tf.where(taken)
    columns = tf.gather_nd(order, places)
    return tf.scatter_nd(
        tf.stack([places[:, 0], tf.cast(columns, tf.int64)], axis=1),
        columns + 1,
        tf.shape(candidates, tf.int64),
    )


def _random_order(eligible: tf.Tensor, keys: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """The first `count` columns of a random order, in which those that are eligible come first.

    Args:
        eligible: bool [n, columns].
        keys: uint64 [n].
        count: int. At most the number of columns.

    Returns:
        int32 [n, count].
    """
    bits = keyed_random.random_bits(keys, tf.shape(eligible)[1])
    # 63 bits, not negative as int64, so that they come before what is not eligible.
    ranks = tf.cast(tf.bitwise.right_shift(bits, tf.constant(1, tf.uint64)), tf.int64)
    return tf.math.top_k(tf.where(eligible, ranks, tf.constant(-1, tf.int64)), count).indices


def _choose_grams(
    candidates: tf.Tensor,
    starts: tf.Tensor,
    keys: tf.Tensor,
    wanted: tf.Tensor,
    max_ngram: int,
) -> tf.Tensor:
    """Chooses whole words or runs of them, given where words start; returns int32 [n, length].

    The value is 0 where a token is not chosen; the tokens of a chosen run have the same value, and
    those of different runs of a row different ones.
    """
    if max_ngram > 1:
        before = tf.pad(candidates[:, :-1], [[0, 0], [1, 0]])
        starts |= candidates & ~before
    # Words are numbered from 0 in each row; -1 is no word.
    word = tf.where(candidates, tf.cumsum(tf.cast(starts, tf.int32), axis=1), 0) - 1
    num_words = tf.reduce_max(word, axis=1) + 1
    width = tf.maximum(tf.reduce_max(num_words), 1)

    places = tf.where(candidates)
    cells = tf.stack([places[:, 0], tf.cast(tf.gather_nd(word, places), tf.int64)], axis=1)
    shape = tf.stack([tf.shape(word, tf.int64)[0], tf.cast(width, tf.int64)])
    sizes = tf.scatter_nd(cells, tf.ones_like(cells[:, 0], tf.int32), shape)
    # Words on both sides of a special token stand apart: the places of their first tokens differ
    # by more than the first one's size.
    firsts = tf.where(starts)
    first_cells = tf.stack([firsts[:, 0], tf.cast(tf.gather_nd(word, firsts), tf.int64)], axis=1)
    first = tf.scatter_nd(first_cells, tf.cast(firsts[:, 1], tf.int32), shape)
    adjoins_next = _shift_left(first, 1) == first + sizes

    gram_of_word = _choose_words(sizes, adjoins_next, num_words, keys, wanted, max_ngram)
    chosen = tf.gather(gram_of_word, tf.maximum(word, 0), batch_dims=1)
    return tf.where(candidates, chosen, 0)


def _choose_words(
    sizes: tf.Tensor,
    adjoins_next: tf.Tensor,
    num_words: tf.Tensor,
    keys: tf.Tensor,
    wanted: tf.Tensor,
    max_ngram: int,
) -> tf.Tensor:
    """Chooses runs of consecutive words.

    The rule: for each number of words s from 1 to `max_ngram` there is a list of all runs of s
    words, in random order. Again and again, s is drawn with a weight of 1 / s, and the next run is
    taken from its list. It is chosen, unless it shares a word with one that was chosen before or
    has more tokens than are still wanted. It ends when there are as many as wanted, or all lists
    are empty. Lists that are empty, or whose runs have more words than tokens are wanted, are left
    out of the draw, which is the same as to draw them in vain.

    Each turn of the loop takes one run in each row that is not ready.

    Args:
        sizes: int32 [n, words]. Tokens of each word.
        adjoins_next: bool [n, words]. Whether a word's last token stands right before the next
            word.
        num_words: int32 [n].
        keys: uint64 [n].
        wanted: int32 [n]. Tokens to choose, at most.
        max_ngram: int. Most words in a run.

    Returns:
        int32 [n, words]. 0 for a word that is not chosen, else 1 + the number of the first word of
        its run.
    """
    width = tf.shape(sizes)[1]
    order_keys = keyed_random.fold_in(keys, _ORDER)
    length_keys = keyed_random.fold_in(keys, _RUN_LENGTHS)

    # Runs of s words by their first word: whether there is one, and its tokens.
    exists = tf.sequence_mask(num_words, width)
    tokens = sizes
    orders, counts, run_tokens = [], [], []
    for s in range(1, max_ngram + 1):
        if s > 1:
            exists &= _shift_left(exists, 1) & adjoins_next
            tokens = sizes + _shift_left(tokens, 1)
        orders.append(_random_order(exists, keyed_random.fold_in(order_keys, s), width))
        counts.append(tf.math.count_nonzero(exists, axis=1, dtype=tf.int32))
        run_tokens.append(tokens)
    orders, run_tokens = tf.concat(orders, axis=1), tf.concat(run_tokens, axis=1)
    counts = tf.stack(counts, axis=1)
    run_lengths = tf.range(1, max_ngram + 1)
    weights = tf.constant([_WEIGHT_OF_ONE // s for s in range(1, max_ngram + 1)], tf.int64)
    # Room for less than the smallest word: nothing can be chosen any more.
    is_word = tf.sequence_mask(num_words, width)
    smallest = tf.reduce_min(tf.where(is_word, sizes, sizes.dtype.max), axis=1)

    def to_draw_from(taken: tf.Tensor, room: tf.Tensor) -> tf.Tensor:
        room = tf.where(room < smallest, 0, room)[:, tf.newaxis]
        return (taken < counts) & (run_lengths <= room)

    def unfinished(turn, lists, taken, room, gram_of_word):
        return tf.reduce_any(lists)

    def take_one(turn, lists, taken, room, gram_of_word):
        # In a row that is ready no list is left; it goes along with numbers that do not count.
        is_active = tf.reduce_any(lists, axis=1)
        bounds = tf.cumsum(tf.where(lists, weights, tf.constant(0, tf.int64)), axis=1)
        draw = keyed_random.integers(keyed_random.fold_in(length_keys, turn), bounds[:, -1])
        drawn = tf.math.count_nonzero(draw[:, tf.newaxis] >= bounds, axis=1, dtype=tf.int32)
        drawn = tf.minimum(drawn, max_ngram - 1)
        place = tf.minimum(tf.gather(taken, drawn, batch_dims=1), width - 1)
        first = tf.gather(orders, drawn * width + place, batch_dims=1)
        size = tf.gather(run_tokens, drawn * width + first, batch_dims=1)

        # The words of the run, and for those beyond its length the column behind the last word.
        is_member = is_active[:, tf.newaxis] & (run_lengths <= drawn[:, tf.newaxis] + 1)
        members = tf.where(is_member, first[:, tf.newaxis] + run_lengths - 1, width)
        is_masked = tf.gather(gram_of_word, members, batch_dims=1) > 0
        is_chosen = is_active & (size <= room) & ~tf.reduce_any(is_masked & is_member, axis=1)
        members = tf.where(is_chosen[:, tf.newaxis], members, width)
        cells = tf.stack([tf.broadcast_to(rows, tf.shape(members)), members], axis=2)
        values = tf.broadcast_to(first[:, tf.newaxis] + 1, tf.shape(members))
        gram_of_word = tf.tensor_scatter_nd_update(gram_of_word, cells, values)

        is_taken = is_active[:, tf.newaxis] & (run_lengths == drawn[:, tf.newaxis] + 1)
        taken += tf.cast(is_taken, tf.int32)
        room -= tf.where(is_chosen, size, 0)
        return turn + 1, to_draw_from(taken, room), taken, room, gram_of_word

    rows = tf.range(tf.shape(sizes)[0])[:, tf.newaxis]
    taken = tf.zeros_like(counts)
    gram_of_word = tf.pad(tf.zeros_like(sizes), [[0, 0], [0, 1]])
    start = (0, to_draw_from(taken, wanted), taken, wanted, gram_of_word)
    *_, gram_of_word = tf.while_loop(unfinished, take_one, start)
    return gram_of_word[:, :-1]


def _shift_left(values: tf.Tensor, places: int) -> tf.Tensor:
    """Moves [n, columns] to the left; zeros or False come in."""
    return tf.pad(values[:, places:], [[0, 0], [0, places]])


def _replace(
    token_ids: tf.Tensor, gram_of_token: tf.Tensor, keys: tf.Tensor, rules: MaskRules
) -> Masks:
    is_chosen = gram_of_token > 0
    width = rules.max_predictions
    shape = tf.stack([tf.shape(token_ids, tf.int64)[0], width])
    # Row by row, so that predictions are in the order of their positions.
    places = tf.where(is_chosen)
    slot = tf.gather_nd(tf.cumsum(tf.cast(is_chosen, tf.int64), axis=1) - 1, places)
    cells = tf.stack([places[:, 0], slot], axis=1)

    def to_slots(values: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.scatter_nd(cells, values, shape), [None, width])

    originals = tf.gather_nd(token_ids, places)
    kind_bits = keyed_random.random_bits(keyed_random.fold_in(keys, _KINDS), width)
    if rules.replacement == "gram":
        # The first token of a gram draws for all of it.
        gram = to_slots(tf.gather_nd(gram_of_token, places))
        is_next = tf.pad(tf.cast(gram[:, 1:] != gram[:, :-1], tf.int32), [[0, 0], [1, 0]])
        kind_bits = tf.gather(kind_bits, tf.cumsum(is_next, axis=1), batch_dims=1)
    draws = tf.gather_nd(keyed_random.uniform(kind_bits), cells)
    kinds = tf.where(draws < MASK_SHARE, MASKED, RANDOM)
    kinds = tf.where((draws >= MASK_SHARE) & (draws < MASK_SHARE + KEEP_SHARE), KEPT, kinds)

    piece_bits = keyed_random.random_bits(keyed_random.fold_in(keys, _RANDOM_PIECES), width)
    choice = keyed_random.integers(tf.gather_nd(piece_bits, cells), len(rules.random_ids))
    replaced = tf.gather(tf.constant(rules.random_ids), choice)
    replaced = tf.where(kinds == MASKED, rules.mask_id, replaced)
    replaced = tf.where(kinds == KEPT, originals, replaced)
    return Masks(
        token_ids=tf.tensor_scatter_nd_update(token_ids, places, replaced),
        mask_positions=to_slots(tf.cast(places[:, 1], tf.int32)),
        mask_ids=to_slots(originals),
        mask_weights=to_slots(tf.ones_like(draws, tf.float32)),
        mask_kinds=to_slots(kinds),
    )
