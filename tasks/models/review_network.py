"""A review network that predicts reviews of any length: those of like length go together, cut to what the network reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.datasets.tokens import PADDING, REVIEW_TOKENS
from tasks.models.engine.accelerated import AcceleratedNetwork
from tasks.models.engine.shared_prefix import padded_model, padding_mode, shared_prefix_model, skips_padding_steps
from tasks.models.engine.train_step import predict
from tasks.models.spec import Floats, Ids, Variant

if TYPE_CHECKING:
    import keras

# Few, because a program is compiled for each.
WIDTHS = (160, 256, 340, REVIEW_TOKENS)
# A loop runs only the steps that a batch needs, whatever the width, and a width more than that costs little.
LOOPED_WIDTHS = (256, REVIEW_TOKENS)
# Reviews of at most so many tokens go into a batch where padding is shared: read from the first word of the longest, these run
# 234 steps a review, whose mean length is 222; batches of the four widths above would run 273.
LENGTHS = (70, 90, 105, 115, 125, 135, 145, 155, 165, 176, 190, 205, 223, 245, 270, 300, 340, 385, 435, REVIEW_TOKENS)

# Reviews of a batch where there are no more: whoever asks for one need not wait for those that fill up a whole batch.
FEW_REVIEWS = 8


def padded_tokens(tokens: pa.ChunkedArray, *, width: int = REVIEW_TOKENS) -> npt.NDArray[np.uint16]:
    """Return the last `width` tokens of each review, uint16 `(reviews, width)`, padded in front with 0."""
    lists = tokens.combine_chunks()
    flat, offsets = lists.flatten().to_numpy(), lists.offsets.to_numpy() - lists.offsets[0].as_py()
    lengths = np.diff(offsets)
    padded = np.full((len(lengths), width), PADDING, dtype=np.uint16)
    # Position of every token counted from the end of its review: 1 is the last one.
    from_end = np.repeat(offsets[1:], lengths) - np.arange(len(flat))
    is_read = from_end <= width
    padded[np.repeat(np.arange(len(lengths)), lengths)[is_read], width - from_end[is_read]] = flat[is_read]
    return padded


def width_batches(
    lengths: npt.NDArray[np.integer[Any]], *, order: Ids, batch_size: int, widths: tuple[int, ...]
) -> list[tuple[int, Ids]]:
    """Return (width, reviews) of batches in which every review fits the width.

    Reviews keep their place in `order` within a width; what does not fill a batch goes up to the next width, so that at
    most one batch is short. The batches come in the order in which their first review stands in `order`.
    """
    position = np.empty(len(lengths), dtype=np.int64)
    position[order] = np.arange(len(order))
    batches: list[tuple[int, Ids]] = []
    remaining: Ids = np.empty(0, dtype=np.int32)
    fits = np.searchsorted(np.asarray(widths), np.minimum(lengths[order], widths[-1]))
    for i, width in enumerate(widths):
        ids = np.concatenate([remaining, order[fits == i]])
        ids = ids[np.argsort(position[ids], kind="stable")]
        whole = len(ids) - len(ids) % batch_size if i < len(widths) - 1 else len(ids)
        batches += [(width, ids[k : k + batch_size]) for k in range(0, whole, batch_size)]
        remaining = ids[whole:]
    return sorted(batches, key=lambda batch: int(position[batch[1]].min()))


def review_lengths(reviews: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """Return the tokens of each padded review, at least 1."""
    lengths: npt.NDArray[np.int64] = np.maximum(np.count_nonzero(reviews != PADDING, axis=1), 1)
    return lengths


class ReviewNetwork:
    """A network with one model for each width of its batches; all share their layers and the optimizer.

    Attributes:
        drops: Whether a layer drops inputs or states in training.
    """

    def __init__(self, accelerated: AcceleratedNetwork, *, variant: Variant) -> None:
        self._network, self.optimizer, self.execution = accelerated.fast, accelerated.optimizer, accelerated.execution
        self.variant = variant
        self.drops = any(
            getattr(layer, "dropout", 0) or getattr(layer, "recurrent_dropout", 0) for layer in accelerated.plain.layers
        )
        self._models: dict[tuple[int, bool], keras.Model] = {}

    @property
    def network(self) -> keras.Model:
        """The network whose layers all models share."""
        return self._network

    @network.setter
    def network(self, network: keras.Model) -> None:
        self._network = network
        self._models.clear()

    def model(self, width: int, *, training: bool) -> keras.Model:
        """Return the model that takes reviews of one width; all share their layers and the optimizer.

        Dropout masks belong to one review and hold over all its steps, so a training with dropout cannot share the prefix.
        """
        shares = padding_mode(self.network) == "prefix" and not (training and self.drops)
        key = (width, shares)
        if key not in self._models:
            model = shared_prefix_model(self.network, width) if shares else padded_model(self.network, width)
            model.compile(
                optimizer=self.optimizer,
                loss="binary_crossentropy",
                metrics=["accuracy"],
                jit_compile=self.execution.jit_compile,
                steps_per_execution=self.execution.steps_per_execution,
            )
            self._models[key] = model
        return self._models[key]

    def widths(self, *, training: bool) -> tuple[int, ...]:
        """Return the widths that reviews may be cut to without another result: those of a batch fit the same."""
        how = padding_mode(self.network)
        if how == "none" or (how == "prefix" and training and self.drops):
            return (REVIEW_TOKENS,)
        if how == "prefix":
            return LENGTHS
        longest = self.variant.crop_tokens if training and self.variant.crop_tokens else REVIEW_TOKENS
        return (*(width for width in WIDTHS if width < longest), longest)

    def compiled_width(self, width: int) -> int:
        """Return the width of the program that takes batches of a width."""
        widths = LOOPED_WIDTHS if skips_padding_steps(self.network) else WIDTHS
        return min(compiled for compiled in widths if compiled >= width)

    def predict(self, reviews: npt.NDArray[np.uint16]) -> Floats:
        """Return what the network says of padded reviews, uint16 `(reviews, 500)`: float32 `(reviews,)`."""
        size, lengths = self._batch_size(len(reviews)), review_lengths(reviews)
        order = np.arange(len(reviews), dtype=np.int32)
        result = np.empty(len(reviews), dtype=np.float32)
        for width, ids in width_batches(lengths, order=order, batch_size=size, widths=self.widths(training=False)):
            # The short batch is filled up, so that no further shape is compiled.
            inputs = reviews[np.resize(ids, size), -self.compiled_width(width) :].astype(np.int32)
            result[ids] = predict(self.model(inputs.shape[1], training=False), inputs)[: len(ids)]
        return result

    def warm_up(self, max_reviews: int) -> None:
        """Compile what predicting up to so many reviews at once needs."""
        for size in sorted({self._batch_size(1), self._batch_size(max_reviews)}):
            for width in sorted({self.compiled_width(width) for width in self.widths(training=False)}):
                predict(self.model(width, training=False), np.zeros((size, width), dtype=np.int32))

    def _batch_size(self, reviews: int) -> int:
        return min(FEW_REVIEWS, self.variant.batch_size) if reviews <= FEW_REVIEWS else self.variant.batch_size
