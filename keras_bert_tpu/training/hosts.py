"""The processes that train together: which of them writes, and what they must agree on.

A TPU, a pod too, is driven by one process, whatever the number of its hosts. Several processes are
those of a MultiWorkerMirroredStrategy, each with the same flags and a TF_CONFIG of its own.
"""

import keras
import tensorflow as tf


class Hosts:
    """The processes of a strategy.

    Every process must call the methods in the same order: they wait for each other.

    Args:
        strategy: tf.distribute.Strategy.

    Attributes:
        number: int. Processes that train together.
        is_chief: bool. Whether this is the one that writes.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self.number, self.is_chief = 1, True
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = strategy.cluster_resolver
            cluster = resolver.cluster_spec().as_dict()
            self.number = sum(len(tasks) for tasks in cluster.values()) or 1
            first = ("chief", 0) if "chief" in cluster else ("worker", 0)
            self.is_chief = self.number == 1 or (resolver.task_type, resolver.task_id) == first
        if self.number > 1:
            self._sum = tf.function(self._sum_over_replicas)

    def from_chief(self, value: int) -> int:
        """Returns the chief's value on all of them, once all have come here."""
        return self._total(value if self.is_chief else 0, of_first=True)

    def any(self, value: bool) -> bool:
        """Tells whether the value is true in any of them."""
        return self._total(int(value), of_first=False) > 0

    def _total(self, value: int, of_first: bool) -> int:
        if self.number == 1:
            return value
        return int(keras.ops.convert_to_numpy(self._sum(tf.constant(value), of_first)))

    def _sum_over_replicas(self, value: tf.Tensor, of_first: bool) -> tf.Tensor:
        def add_up(value: tf.Tensor) -> tf.Tensor:
            replica = tf.distribute.get_replica_context()
            if of_first:  # The first replica is one of the chief's.
                value *= tf.cast(replica.replica_id_in_sync_group == 0, value.dtype)
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, value)

        results = self._strategy.run(add_up, args=(value,))
        return self._strategy.experimental_local_results(results)[0]
