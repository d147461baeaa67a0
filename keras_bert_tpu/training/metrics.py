"""Metrics that stay exact over replicas: a sum over another sum."""

from typing import Any

import keras


class Ratio(keras.metrics.Metric):
    """Sum of numerators over sum of denominators; 0 before anything was counted.

    Under a distribution strategy each replica adds its own sums and a read outside of the replicas
    adds them up, so the result is the ratio over the global batch. `keras.metrics.Mean` with
    sample weights inside a step is averaged per replica instead.
    """

    def __init__(self, name: str, shape: tuple[int, ...] = (), **kwargs: Any):
        super().__init__(name=name, dtype="float32", **kwargs)
        self.numerator = self.add_variable(shape, "zeros", name="numerator")
        self.denominator = self.add_variable((), "zeros", name="denominator")

    def update_state(self, numerator: Any, denominator: Any) -> None:
        """Adds to both sums: a float32 tensor of the shape given, and a float32 scalar."""
        self.numerator.assign_add(keras.ops.cast(numerator, "float32"))
        self.denominator.assign_add(keras.ops.cast(denominator, "float32"))

    def result(self) -> Any:
        """Returns the float32 ratio, of the shape given."""
        return keras.ops.divide_no_nan(self.numerator, self.denominator)
