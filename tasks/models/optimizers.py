"""The optimizers of the variants, and the schedule of their learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def rmsprop(learning_rate: float) -> keras.Optimizer:
    """Return RMSprop with Keras's defaults, the optimizer of the tutorial."""
    import keras

    return keras.optimizers.RMSprop(learning_rate)


def adamw(learning_rate: float) -> keras.Optimizer:
    """Return AdamW with a little decay of the weights, and gradients of a norm of at most 1."""
    import keras

    return keras.optimizers.AdamW(learning_rate, weight_decay=1e-4, clipnorm=1.0)


def averaged_adam(learning_rate: float) -> keras.Optimizer:
    """Return Adam with clipped gradients that keeps a moving average of the weights over some 200 steps."""
    import keras

    return keras.optimizers.Adam(learning_rate, clipnorm=1.0, use_ema=True, ema_momentum=0.995)


def cosine(done: float) -> float:
    """Return the factor of the learning rate that falls along half a cosine to a fiftieth (Loshchilov and Hutter 2017)."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))
