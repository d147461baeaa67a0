import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.keyed_random import fold_in, integers, random_bits, uniform


def splitmix64(state, count):
    """The first numbers of SplitMix64 in plain Python integers."""
    numbers = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        numbers.append(mix(state))
    return numbers


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def chi_square(counts, expected):
    return float(((counts - expected) ** 2 / expected).sum())


def assert_uniform(values, bins):
    # A sum of squares with bins - 1 degrees of freedom; five standard deviations above its mean,
    # and five below, for what is too even is not random either.
    counts = np.bincount(values, minlength=bins)
    assert len(counts) == bins
    statistic = chi_square(counts, len(values) / bins)
    assert abs(statistic - (bins - 1)) < 5 * np.sqrt(2 * (bins - 1))


class TestKnownAnswers:
    def test_the_mixing_is_that_of_splitmix64(self):
        # The numbers of seed 0, as in the test data of several implementations (Java's
        # SplittableRandom, Vigna's C), hold the reference above; fold_in is held to the reference.
        expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
        assert splitmix64(0, 3) == expected
        hashes = splitmix64(0, 50)
        for key in (0, 1, 12345, 2**63 + 11, 2**64 - 1):
            folded = [int(fold_in(key, index)) for index in range(50)]
            assert folded == [mix(key ^ number) for number in hashes]

    def test_numbers_stay_as_they_are(self):
        # Records already written were drawn with these: a change here makes other examples.
        assert int(fold_in(0, 0)) == 0x48218226FF3CD4BF
        assert int(fold_in(12345, 1, 2, 3)) == 0x29BF75285A0CEF1F
        expected = [0x4579B960BB007F46, 0xDB6685C74BCFF7FD, 0x617EB6CEC11D9485]
        assert random_bits(42, 3).tolist() == expected

    def test_to_fold_in_several_is_to_fold_in_one_after_the_other(self):
        assert fold_in(12345, 1, 2, 3) == fold_in(fold_in(fold_in(12345, 1), 2), 3)
        assert fold_in(12345) == 12345

    def test_negative_numbers_stand_for_their_bits(self):
        assert fold_in(-1, -2) == fold_in(2**64 - 1, 2**64 - 2)
        assert fold_in(np.array(-1), np.int32(-2)) == fold_in(-1, -2)


class TestNumpyAndTensorFlow:
    KEYS = np.array([0, 1, 2, 2**31, 2**32 + 5, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)

    def test_fold_in_gives_the_same_bits(self):
        data = np.array([-(2**63), -1, 0, 1, 7, 2**40, 2**63 - 1])
        expected = fold_in(self.KEYS[:, None], data, 9)
        assert expected.dtype == np.uint64 and expected.shape == (8, 7)
        for keys in (tf.constant(self.KEYS), tf.bitcast(tf.constant(self.KEYS), tf.int64)):
            result = fold_in(keys[:, None], tf.constant(data), 9)
            assert result.dtype == tf.uint64
            np.testing.assert_array_equal(result, expected)
        # Of either kind, the one that is a tensor decides.
        np.testing.assert_array_equal(fold_in(self.KEYS, tf.constant(3)), fold_in(self.KEYS, 3))
        assert tf.is_tensor(fold_in(12345, tf.constant(3)))
        assert isinstance(fold_in(12345, 3), np.generic | np.ndarray)

    @pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
    def test_negative_numbers_are_the_same(self, dtype):
        np.testing.assert_array_equal(
            fold_in(tf.constant([-5, -1], dtype), tf.constant(-7, dtype)), fold_in([-5, -1], -7)
        )

    def test_everything_gives_the_same_numbers_eagerly_in_graphs_and_in_datasets(self):
        def numbers(keys):
            bits = random_bits(fold_in(keys, 4), 33)
            return bits, uniform(bits), integers(bits, 30522)

        expected = numbers(self.KEYS)
        batches = tf.data.Dataset.from_tensor_slices(self.KEYS).batch(3)
        from_dataset = [
            np.concatenate(parts)
            for parts in zip(*batches.map(numbers).as_numpy_iterator(), strict=True)
        ]
        for results in (
            numbers(tf.constant(self.KEYS)),
            tf.function(numbers)(tf.constant(self.KEYS)),
            from_dataset,
        ):
            for result, wanted in zip(results, expected, strict=True):
                np.testing.assert_array_equal(result, wanted)

    def test_the_width_may_be_a_tensor(self):
        draw = tf.function(
            random_bits,
            input_signature=[tf.TensorSpec([None], tf.uint64)] + [tf.TensorSpec([], tf.int32)],
        )
        np.testing.assert_array_equal(draw(self.KEYS, 5), random_bits(self.KEYS, 5))


class TestRandomBits:
    def test_a_number_depends_on_its_key_and_index_only(self):
        keys = fold_in(1, np.arange(10))
        many = random_bits(keys, 20)
        np.testing.assert_array_equal(random_bits(keys[[7, 3]], 11), many[[7, 3], :11])
        np.testing.assert_array_equal(random_bits(keys[5], 20), many[5])
        np.testing.assert_array_equal(many[:, 6], fold_in(keys, 6))

    @pytest.mark.parametrize(
        "bits",
        [
            random_bits(12345, 100_000),  # One key.
            random_bits(np.arange(100_000), 1)[:, 0],  # Neighbouring raw keys.
            fold_in(np.arange(1000)[:, None], np.arange(100)).ravel(),
            fold_in(7, np.arange(100_000) << 32),  # Only upper bits differ.
        ],
        ids=["columns", "keys", "both", "upper bits"],
    )
    def test_bytes_are_uniform(self, bits):
        assert len(np.unique(bits)) == len(bits)
        for byte in bits.view(np.uint8).reshape(-1, 8).T:
            assert_uniform(byte, 256)
        # Bits: binomial, standard deviation sqrt(n) / 2.
        ones = np.unpackbits(bits.view(np.uint8)).reshape(-1, 64).sum(axis=0)
        assert np.abs(ones - len(bits) / 2).max() < 5 * np.sqrt(len(bits)) / 2

    @pytest.mark.parametrize("flipped", ["key", "data"])
    def test_one_flipped_bit_flips_half_of_the_result(self, flipped):
        samples = 4000
        keys, data = fold_in(3, np.arange(2 * samples)).reshape(2, -1)
        # Small numbers too, as seeds, blocks and indices are.
        keys[: samples // 2] >>= np.uint64(50)
        data[: samples // 2] >>= np.uint64(50)
        before = fold_in(keys, data)
        for bit in range(64):
            flip = np.uint64(1 << bit)
            if flipped == "key":
                changed = before ^ fold_in(keys ^ flip, data)
            else:
                changed = before ^ fold_in(keys, data ^ flip)
            shares = np.unpackbits(changed.view(np.uint8)).reshape(-1, 64).mean(axis=0)
            # Standard deviation .5 / sqrt(4000) = .0079; the largest of 4096 such is below six.
            assert np.abs(shares - 0.5).max() < 6 * 0.0079

    def test_neighbours_are_not_correlated(self):
        draws = uniform(random_bits(np.arange(1000), 1000)) - 0.5
        pairs = {
            "columns": (draws[:, 1:], draws[:, :-1]),
            "keys": (draws[1:], draws[:-1]),
            "diagonal": (draws[1:, :-1], draws[:-1, 1:]),
            "other diagonal": (draws[1:, 1:], draws[:-1, :-1]),
        }
        for name, (a, b) in pairs.items():
            # The variance of a uniform number is 1 / 12; that of the mean product its square / n.
            correlation = 12 * (a * b).mean()
            assert abs(correlation) < 5 / np.sqrt(a.size), name

    def test_purposes_are_separate(self):
        keys = np.arange(300)
        parts = [random_bits(fold_in(keys, purpose), 300).ravel() for purpose in range(4)]
        assert len(np.unique(np.concatenate(parts))) == 4 * 300 * 300

    def test_the_order_of_what_is_folded_in_matters(self):
        numbers = np.arange(100)
        both = fold_in(5, numbers[:, None], numbers)
        assert len(np.unique(both)) == 100 * 100


class TestUniform:
    def test_the_upper_53_bits_count(self):
        bits = np.array([0, 2**11 - 1, 2**11, 2**63, 2**64 - 1], np.uint64)
        expected = [0.0, 0.0, 2.0**-53, 0.5, 1 - 2.0**-53]
        assert uniform(bits).tolist() == expected
        assert uniform(tf.constant(bits)).numpy().tolist() == expected


class TestIntegers:
    def test_the_upper_32_bits_are_scaled(self):
        bits = np.array([0, 2**32 - 1, 2**63, 2**64 - 1], np.uint64)
        for result in (integers(bits, 10), integers(tf.constant(bits), 10)):
            assert np.asarray(result).tolist() == [0, 0, 5, 9]
            assert np.asarray(result).dtype == np.int64
        assert integers(bits, 2**32).tolist() == [0, 0, 2**31, 2**32 - 1]

    def test_each_number_may_have_its_bound(self):
        bits = random_bits(1, 5)
        bounds = np.array([1, 2, 3, 4, 5])
        expected = [int(integers(bits[i], int(bounds[i]))) for i in range(5)]
        assert integers(bits, bounds).tolist() == expected
        assert integers(bits, tf.constant(bounds)).numpy().tolist() == expected

    @pytest.mark.parametrize("bound", [2, 7, 1000])
    def test_all_are_as_likely(self, bound):
        assert_uniform(integers(random_bits(fold_in(2, bound), 100_000), bound), bound)


class TestErrors:
    @pytest.mark.parametrize("wrong", [1.5, np.zeros(2), tf.zeros([2])])
    def test_only_integers_are_keys(self, wrong):
        with pytest.raises(InputError, match="must be integers. Received: float"):
            fold_in(wrong, 1)
        with pytest.raises(InputError, match="must be integers. Received: float"):
            fold_in(1, wrong)

    def test_a_number_beyond_64_bits_is_refused(self):
        with pytest.raises(InputError, match=f"must fit into 64 bits. Received: {2**64}"):
            fold_in(2**64, 1)
