"""A train step that is the same on one replica and on many, whatever the losses are."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_tpu.layers.dropout import SITES_PER_STEP
from keras_bert_tpu.training.losses import Sums
from keras_bert_tpu.training.low_rank import LowRankUpdates
from keras_bert_tpu.training.metrics import Ratio

# int32 holds this many steps times SITES_PER_STEP; the first entry of the seed counts the rounds.
_STEPS_PER_ROUND = 2**31 // SITES_PER_STEP
# Primes that keep the first entries of replicas, rounds, slices and neighbouring run seeds apart.
_REPLICA_STRIDE, _ROUND_STRIDE, _SLICE_STRIDE = 15_485_863, 32_452_843, 49_979_687


class GlobalStep(keras.Model):
    """What `fit` trains: a model with losses that are means over the targets of the global batch.

    With dropout off, a step on N replicas equals a step on one to rounding: the losses are means
    over the real targets of the global batch, and the gradient is clipped after it was summed
    over the replicas. Create it, and compile it, in the scope of the strategy.

    Args:
        trained: keras.Model, called with `training` and `seed` as those of this package are.
        losses: Names of the losses, whose metrics are `NAME_loss` and `NAME_accuracy`; the empty
            name is that of an only loss.
        clip_norm: float. Largest global norm of the reduced gradient; 0 turns clipping off.
        seed: int. Dropout masks are a function of it, the step, the replica, the slice and the
            layer.
        max_skipped_in_row: int. A step whose loss or gradient is not finite is skipped: it counts,
            and changes nothing else. After so many in a row all further ones are skipped, too, so
            that who looks at `skipped_in_row` later still finds the weights of before.
        name: str.
    """

    def __init__(
        self,
        trained: keras.Model,
        losses: Sequence[str],
        clip_norm: float,
        seed: int,
        max_skipped_in_row: int = 10,
        name: str = "global_step",
    ):
        super().__init__(name=name)
        self.trained = trained
        self.clip_norm = clip_norm
        self.seed = seed
        self.max_skipped_in_row = max_skipped_in_row
        # Lengths that the batches of this phase may have; none if all have the same.
        self.length_buckets: tuple[int, ...] = ()
        # Slices of a replica's batch that are gone through one after the other, to save memory.
        self.accumulation_steps = 1
        self.input_waits: list[tf.Tensor] = []
        self.lengths: list[tf.Tensor] = []
        prefixes = [f"{loss}_" if loss else "" for loss in losses]
        self._loss_ratios = [Ratio(f"{prefix}loss") for prefix in prefixes]
        self._accuracy_ratios = [Ratio(f"{prefix}accuracy") for prefix in prefixes]
        self._gradient_norm = Ratio("gradient_norm")
        self._skipped = Ratio("skipped_steps")
        self.low_rank: LowRankUpdates | None = None
        self._set_layer_groups()
        self._skipped_in_row = self.add_weight(
            shape=(),
            initializer="zeros",
            dtype="int32",
            trainable=False,
            aggregation="only_first_replica",
            name="skipped_in_row",
        )
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The sums over replicas and over the steps since the last reset."""
        return [
            *(
                metric
                for pair in zip(self._loss_ratios, self._accuracy_ratios, strict=True)
                for metric in pair
            ),
            self._gradient_norm,
            self._skipped,
            self._group_norms,
        ]

    def use_low_rank(self, updates: LowRankUpdates) -> None:
        """Trains low-rank updates of the model, and what of itself is left to train.

        Args:
            updates: LowRankUpdates of the model. Call it before an optimizer is built.
        """
        self.low_rank = updates
        self._set_layer_groups()

    def call(self, inputs: Mapping[str, Any], training: bool | None = None, seed: Any = None):
        """Calls the model that is trained."""
        with self.low_rank.applied() if self.low_rank else contextlib.nullcontext():
            return self.trained(inputs, training=training, seed=seed)

    def totals(self, data: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """Returns, for each loss, the weight of this replica's targets: a float32 scalar."""
        raise NotImplementedError

    def sums(self, data: Mapping[str, tf.Tensor], outputs: Any) -> list[Sums]:
        """Returns, for each loss, the sums over this replica's targets.

        Args:
            data: The batch.
            outputs: What the model gave.
        """
        raise NotImplementedError

    def train_step(self, data: Mapping[str, tf.Tensor]) -> None:
        """Runs one step on this replica's slice of the global batch.

        Args:
            data: The batch, inputs and targets.
        """
        replicas = tf.distribute.get_replica_context()
        totals = replicas.all_reduce(tf.distribute.ReduceOp.SUM, self.totals(data))
        first_seed = self._dropout_seed(replicas)
        if self.accumulation_steps == 1:
            gradients, sums = self._gradients(data, totals, first_seed)
        else:
            gradients, sums = self._accumulated_gradients(data, totals, first_seed)
        # The loss goes along for the test of whether it is finite.
        *gradients, loss = replicas.all_reduce(
            tf.distribute.ReduceOp.SUM, [*gradients, tf.add_n([part.loss for part in sums])]
        )
        halves = tf.stack([tf.nn.l2_loss(gradient) for gradient in gradients])
        norm = tf.sqrt(2.0 * tf.reduce_sum(halves))
        is_finite = tf.math.is_finite(norm) & tf.math.is_finite(loss)
        in_row = tf.convert_to_tensor(self._skipped_in_row)
        is_made = is_finite & (in_row < self.max_skipped_in_row)
        share = tf.cast(is_made, tf.float32)
        scale = share
        if self.clip_norm:
            scale = tf.where(is_made, self.clip_norm / tf.maximum(norm, self.clip_norm), 0.0)
        # Zeros of a gradient that is not finite, at the price of the product for clipping.
        gradients = [tf.math.multiply_no_nan(gradient, scale) for gradient in gradients]
        self.optimizer.apply_reduced(gradients, self.trainable_variables, share)
        self._skipped_in_row.assign(tf.where(is_made, 0, in_row + 1))
        self._update_metrics([_of_made_step(part, share) for part in sums])
        self._gradient_norm.update_state(tf.math.multiply_no_nan(norm, share), share)
        norms = tf.sqrt(
            2.0 * tf.math.unsorted_segment_sum(halves, self._group_indices, len(self.layer_groups))
        )
        self._group_norms.update_state(tf.math.multiply_no_nan(norms, share), share)
        # Each replica counts, and the sum over replicas is to be a number of steps.
        self._skipped.update_state((1.0 - share) / replicas.num_replicas_in_sync, 0.0)

    def _gradients(
        self, data: Mapping[str, tf.Tensor], totals: Sequence[tf.Tensor], seed: tf.Tensor
    ) -> tuple[list[tf.Tensor], list[Sums]]:
        """The gradients of this data's share of the global mean losses, and the sums behind it."""
        with tf.GradientTape() as tape:
            sums = self.sums(data, self(data, training=True, seed=_fold(seed)))
            parts = zip(sums, totals, strict=True)
            loss = tf.add_n([tf.math.divide_no_nan(part.loss, total) for part, total in parts])
        # The tied table has a sparse gradient from the lookup and a dense one from the scores;
        # their sum is dense, and all others are dense by construction.
        gradients = tape.gradient(loss, self.trainable_variables)
        return [tf.convert_to_tensor(gradient) for gradient in gradients], sums

    def _accumulated_gradients(
        self, data: Mapping[str, tf.Tensor], totals: Sequence[tf.Tensor], seed: tf.Tensor
    ) -> tuple[list[tf.Tensor], list[Sums]]:
        """As `_gradients`, a slice at a time: the shares of the slices add up to the whole."""
        number = self.accumulation_steps
        slices = {
            name: tf.reshape(value, [number, value.shape[0] // number, *value.shape[1:]])
            for name, value in data.items()
        }

        # Inlined in the loop, temporaries that TensorFlow's memory optimizer makes of large sums
        # are made once too often, and the next step finds one there (tensorflow issue 23780).
        gradients_of = tf.function(
            self._gradients, autograph=False, experimental_attributes={"_noinline": True}
        )

        def add_slice(index: tf.Tensor, *before: Any) -> tuple[Any, ...]:
            part = {name: value[index] for name, value in slices.items()}
            own_seed = seed + tf.stack([tf.cast(index, tf.int64) * _SLICE_STRIDE, 0])
            made = gradients_of(part, totals, own_seed)
            return (index + 1, *tf.nest.map_structure(tf.add, before, made))

        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in self.trainable_variables]
        nothing = [Sums(*[tf.zeros([])] * 3) for _ in self._loss_ratios]
        _, gradients, sums = tf.while_loop(
            lambda index, *_: index < number,
            add_slice,
            (tf.constant(0), zeros, nothing),
            parallel_iterations=1,  # Or the activations of two slices could be there at once.
        )
        return gradients, sums

    def test_step(self, data: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Adds this replica's slice of a held-out batch to the metrics.

        On several replicas the batches need `next_sentence_weights`: when a finite dataset ends, a
        distributed iterator fills up with rows of zeros, which must not count.
        """
        self._add_held_out(data)
        return self.get_metrics_result()

    @tf.function
    def held_out_function(self, iterator: Any) -> None:
        """Adds the next held-out batch of all replicas to the metrics."""
        self.distribute_strategy.run(self._add_held_out, args=(iterator.get_next(),))

    def _add_held_out(self, data: Mapping[str, tf.Tensor]) -> None:
        self._update_metrics(self.sums(data, self(data, training=False)))

    def get_metrics_result(self) -> dict[str, tf.Tensor]:
        """Returns the metrics and `loss`, the sum of the mean losses."""
        results = {
            metric.name: metric.result()
            for metric in self.metrics
            if metric is not self._skipped and metric is not self._group_norms
        }
        loss = tf.add_n([ratio.result() for ratio in self._loss_ratios])
        return {
            **results,
            "loss": loss,
            "skipped_steps": tf.convert_to_tensor(self._skipped.numerator),
        }

    def layer_gradient_norms(self) -> dict[str, float]:
        """Returns the mean norm of the gradient of each layer since the last reset, unclipped.

        It is read when a record is made, and not returned with each step.
        """
        norms = keras.ops.convert_to_numpy(self._group_norms.result())
        return {name: float(norm) for name, norm in zip(self.layer_groups, norms, strict=True)}

    @property
    def skipped_in_row(self) -> int:
        """How many of the last steps were skipped without one between them that was made."""
        return int(keras.ops.convert_to_numpy(self._skipped_in_row))

    def make_train_function(self, force: bool = False) -> None:
        """Builds what `fit` calls: `steps_per_execution` steps and the time they waited for input.

        Keras' own function does not tell how long `get_next` took, and returns the metrics of a
        replica, averaged, where this one returns those of the global batch.
        """
        if self.train_function is not None and not force:
            return
        strategy = self.distribute_strategy

        def step(data: Mapping[str, tf.Tensor]) -> None:
            if self.jit_compile:
                tf.function(self.train_step, jit_compile=True)(data)
            else:
                self.train_step(data)

        @tf.function
        def run_steps(
            iterator: Any, length_buckets: tuple[int, ...], accumulation_steps: int
        ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
            waited = tf.constant(0.0, tf.float64)
            length = tf.constant(0, tf.int64)
            for _ in tf.range(self.steps_per_execution):
                began = tf.timestamp()
                with tf.control_dependencies([began]):
                    batch = iterator.get_next()
                with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                    waited += tf.timestamp() - began
                (token_ids, *_) = strategy.experimental_local_results(batch["token_ids"])
                length += tf.shape(token_ids, tf.int64)[-1]
                if length_buckets:
                    _run_in_bucket(strategy, step, batch, length_buckets)
                else:
                    strategy.run(step, args=(batch,))
            return self.get_metrics_result(), waited, length

        def train_function(iterator: Any) -> dict[str, tf.Tensor]:
            # What is no tensor is told, so that a phase that differs in it is traced anew.
            logs, waited, length = run_steps(iterator, self.length_buckets, self.accumulation_steps)
            self.input_waits.append(waited)
            self.lengths.append(length)
            return logs

        self.train_function = train_function

    def take_input_wait(self) -> float:
        """Returns the seconds that the steps since the last call waited for input."""
        seconds = float(sum(float(waited) for waited in self.input_waits))
        self.input_waits.clear()
        return seconds

    def take_length(self) -> int:
        """Returns the lengths of the batches of the steps since the last call, added up."""
        length = sum(int(length) for length in self.lengths)
        self.lengths.clear()
        return length

    def _dropout_seed(self, replicas: tf.distribute.ReplicaContext) -> tf.Tensor:
        """The int64 seed [2] of this step, replica and its first slice, before `_fold`."""
        step = tf.cast(self.optimizer.iterations, tf.int64)
        replica = tf.cast(replicas.replica_id_in_sync_group, tf.int64)
        first = self.seed + replica * _REPLICA_STRIDE + step // _STEPS_PER_ROUND * _ROUND_STRIDE
        second = step % _STEPS_PER_ROUND * SITES_PER_STEP
        return tf.stack([first, second])

    def _set_layer_groups(self) -> None:
        self.layer_groups, self._group_indices = _layer_groups(self)
        self._group_norms = Ratio("layer_gradient_norms", (len(self.layer_groups),))

    def _update_metrics(self, sums: Sequence[Sums]) -> None:
        for part, loss, accuracy in zip(
            sums, self._loss_ratios, self._accuracy_ratios, strict=True
        ):
            loss.update_state(part.loss, part.weight)
            accuracy.update_state(part.correct, part.weight)


def _of_made_step(sums: Sums, share: tf.Tensor) -> Sums:
    """The sums of a step that was made; zeros of one that was skipped."""
    return Sums(*(tf.math.multiply_no_nan(value, share) for value in sums))


def _layer_groups(step: GlobalStep) -> tuple[list[str], list[int]]:
    """Names the layers with trainable variables, and tells to which each variable belongs."""
    paths = [variable.path for variable in step.trainable_variables]
    prefixes = (f"{step.trained.name}/", f"{step.trained.encoder.name}/")
    for prefix in prefixes:
        paths = [path.removeprefix(prefix) for path in paths]
    names = [path.split("/", 1)[0] for path in paths]
    groups = list(dict.fromkeys(names))
    return groups, [groups.index(name) for name in names]


def _fold(seed: tf.Tensor) -> tf.Tensor:
    """The int32 seed that `Dropout` takes."""
    return tf.cast(seed % 2**31, tf.int32)


def _run_in_bucket(
    strategy: tf.distribute.Strategy,
    step: Callable[[Mapping[str, tf.Tensor]], None],
    batch: Any,
    length_buckets: tuple[int, ...],
) -> None:
    """Runs a step on a batch that has one of several lengths, each of them static in its branch."""
    # Or else a TPUStrategy pads the dimension, of which only the branches know the length.
    options = tf.distribute.RunOptions(experimental_enable_dynamic_batch_size=False)

    def branch(length: int) -> Callable[[], tf.Tensor]:
        def step_of_length(data: Mapping[str, tf.Tensor]) -> None:
            step(
                {
                    name: tf.ensure_shape(value, [*value.shape[:-1], length])
                    if value.shape.rank and value.shape[-1] is None
                    else value
                    for name, value in data.items()
                }
            )

        def run() -> tf.Tensor:
            strategy.run(step_of_length, args=(batch,), options=options)
            return tf.constant(length)

        return run

    (token_ids, *_) = strategy.experimental_local_results(batch["token_ids"])
    bucket = tf.searchsorted(tf.constant(length_buckets), tf.shape(token_ids)[-1:])[0]
    tf.switch_case(bucket, [branch(length) for length in length_buckets])
