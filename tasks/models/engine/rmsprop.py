"""RMSprop that takes the gradient of an embedding in one pass."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def accelerate_optimizer(optimizer: keras.Optimizer) -> keras.Optimizer:
    """Return the fast form of an optimizer where there is one, with the same settings and results, else the optimizer itself."""
    import keras

    if type(optimizer) is not keras.optimizers.RMSprop or keras.backend.backend() != "tensorflow":
        return optimizer
    return _rmsprop_class().from_config(optimizer.get_config())


@cache
def _rmsprop_class() -> type[Any]:
    import keras
    import tensorflow as tf

    def compiled(part: Any) -> Any:
        return tf.function(part, jit_compile=not tf.config.list_physical_devices("GPU"))

    class SlicedRMSprop(keras.optimizers.RMSprop):  # type: ignore[misc]
        """Keras's RMSprop, which takes the gradient of an embedding in one pass.

        Such a gradient is a row for every token that was read. Keras squares the rows one by one before it adds those of a
        word, and divides each by the root; here both sums are made first. Results are the same to rounding.
        """

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            usual = self.momentum > 0 or self.centered or tf.distribute.has_strategy()
            if usual or not isinstance(gradient, tf.IndexedSlices):
                super().update_step(gradient, variable, learning_rate)
                return
            velocity = self._velocities[self._get_variable_index(variable)]
            now = [tf.convert_to_tensor(one) for one in (variable, velocity)]
            # Programs of their own where the step is none: many small operations would pass over the whole table one by one.
            # The two sums run beside each other then.
            rows = gradient.values, gradient.indices, variable.shape[0]
            total, squares = compiled(self._total)(*rows), compiled(self._squares)(*rows)
            rate = tf.cast(learning_rate, variable.dtype)
            moved, new_velocity = compiled(self._moved)(total, squares, *now, rate)
            velocity.assign(new_velocity)
            variable.assign(moved)

        def _total(self, values: Any, indices: Any, words: int) -> Any:
            return tf.math.unsorted_segment_sum(values, indices, words)

        def _squares(self, values: Any, indices: Any, words: int) -> Any:
            return tf.math.unsorted_segment_sum(values * values, indices, words)

        def _moved(self, total: Any, squares: Any, variable: Any, velocity: Any, learning_rate: Any) -> tuple[Any, Any]:
            """Return the new values of a variable and of its velocity."""
            velocity = self.rho * velocity + (1 - self.rho) * squares
            return variable - learning_rate * total / tf.sqrt(velocity + self.epsilon), velocity

    return SlicedRMSprop
