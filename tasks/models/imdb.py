"""IMDB as the networks see it: the last 500 words of a review in, the probability that it is positive out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import SettingError
from tasks.datasets.imdb.text import APOSTROPHES, SPACES, words_of
from tasks.datasets.row_ids import RowIds, content_ids
from tasks.datasets.spec import SPLITS
from tasks.datasets.tokens import PADDING, RANK_OFFSET, REVIEW_TOKENS, START, UNKNOWN, VOCABULARY_SIZE
from tasks.models.engine.accelerated import AcceleratedNetwork, accelerate_for_scoring
from tasks.models.engine.execution import ExecutionNote
from tasks.models.engine.shared_prefix import padded_model, padding_mode, shared_prefix_model, skips_padding_steps
from tasks.models.engine.train_step import predict
from tasks.models.networks.imdb import VARIANTS
from tasks.models.spec import Batch, Budget, Floats, Ids, Problem, ReviewsPlot, ScoredSplit, Variant, refuse_task, restored
from tasks.scoring import ClassificationScoring

if TYPE_CHECKING:
    import keras

# Few, because a program is compiled for each.
WIDTHS = (160, 256, 340, REVIEW_TOKENS)
# A loop runs only the steps that a batch needs, whatever the width, and a width more than that costs little.
LOOPED_WIDTHS = (256, REVIEW_TOKENS)
# Reviews of at most so many tokens go into a batch where padding is shared: read from the first word of the longest, these run
# 234 steps a review, whose mean length is 222; batches of the four widths above would run 273.
LENGTHS = (70, 90, 105, 115, 125, 135, 145, 155, 165, 176, 190, 205, 223, 245, 270, 300, 340, 385, 435, REVIEW_TOKENS)


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


class ImdbLearner:
    """A network beside the padded reviews of all three splits.

    Attributes:
        reviews: uint16 `(reviews, 500)` by split.
        labels: float32 `(reviews,)` by split.
        lengths: Tokens a review, at least 1, by split.
    """

    def __init__(
        self, splits: Mapping[str, pa.Table], *, words: tuple[str, ...], accelerated: AcceleratedNetwork, variant: Variant
    ) -> None:
        if accelerated.plain.output_shape != (None, 1):
            raise SettingError(
                f"variant {variant.name!r} of imdb returns the shape {accelerated.plain.output_shape}, expected the "
                'probability of a positive review: end it with Dense(1, activation="sigmoid")'
            )
        self.words = words
        self.reviews: dict[str, npt.NDArray[np.uint16]] = {name: padded_tokens(splits[name]["tokens"]) for name in SPLITS}
        self.labels: dict[str, Floats] = {name: splits[name]["label"].to_numpy().astype(np.float32) for name in SPLITS}
        self.lengths: dict[str, npt.NDArray[np.int64]] = {
            name: np.maximum((reviews != PADDING).sum(axis=1), 1) for name, reviews in self.reviews.items()
        }
        self.network, self.plain_network = accelerated.fast, accelerated.plain
        self.execution, self._accelerated = accelerated.execution, accelerated
        self.variant = variant
        self.optimizer = accelerated.optimizer
        self._drops = any(
            getattr(layer, "dropout", 0) or getattr(layer, "recurrent_dropout", 0) for layer in self.plain_network.layers
        )
        self._models: dict[tuple[int, bool], keras.Model] = {}

    def _model(self, width: int, *, training: bool) -> keras.Model:
        """Return the model that takes reviews of one width; all share their layers and the optimizer.

        Dropout masks belong to one review and hold over all its steps, so a training with dropout cannot share the prefix.
        """
        shares = padding_mode(self.network) == "prefix" and not (training and self._drops)
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

    def describe_execution(self) -> tuple[ExecutionNote, ...]:
        """Return a note on each recurrent layer, and one on how padding is read."""
        full = f"padding: every review runs the full width of {REVIEW_TOKENS} tokens"
        mode = padding_mode(self.network)
        if mode == "any":
            padding = ExecutionNote("padding: reviews are cut to their own width, because the network passes padding over")
        elif mode == "none":
            padding = ExecutionNote(
                f"{full}, because the padding's states cannot be shared",
                "one recurrent layer that reads forward and returns its last output, right after the embedding (several times)",
            )
        elif self._drops:
            padding = ExecutionNote(f"{full}, because masks of dropout belong to one review", "leave dropout out of the layer")
        else:
            padding = ExecutionNote("padding: the steps that every review of a batch pads are run once, at batch size 1")
        return (*self._accelerated.describe(), padding)

    def _widths(self, *, training: bool) -> tuple[int, ...]:
        """Return the widths that reviews may be cut to without another result: those of a batch fit the same."""
        how = padding_mode(self.network)
        if how == "none" or (how == "prefix" and training and self._drops):
            return (REVIEW_TOKENS,)
        if how == "prefix":
            return LENGTHS
        longest = self.variant.crop_tokens if training and self.variant.crop_tokens else REVIEW_TOKENS
        return (*(width for width in WIDTHS if width < longest), longest)

    def _compiled(self, width: int) -> int:
        """Return the width of the program that takes batches of a width."""
        widths = LOOPED_WIDTHS if skips_padding_steps(self.network) else WIDTHS
        return min(compiled for compiled in widths if compiled >= width)

    def batches(self, *, seed: int, epoch: int, steps: int | None) -> tuple[int, Iterator[Batch]]:
        """Return one pass over the training split, or its first `steps`, reviews of like length together."""
        lengths, widths = self.lengths["train"], self._widths(training=True)
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(lengths)).astype(np.int32)
        batches = width_batches(lengths, order=order, batch_size=self.variant.batch_size, widths=widths)[:steps]
        # Where a review is longer than what training reads of it, another part of it is read each time.
        excess = np.maximum(lengths - widths[-1], 0)
        ends = REVIEW_TOKENS - (rng.integers(excess + 1) if self.variant.crop_tokens else np.zeros_like(excess))
        return len(batches), (self._batch(width, ids, ends=ends[ids]) for width, ids in batches)

    def _batch(self, width: int, ids: Ids, *, ends: npt.NDArray[np.integer[Any]]) -> Batch:
        columns = np.arange(-self._compiled(width), 0)
        inputs = self.reviews["train"][ids[:, None], ends[:, None] + columns].astype(np.int32)
        return Batch(self._model(inputs.shape[1], training=True), inputs, self.labels["train"][ids][:, None])

    def predict(self, split: str) -> Floats:
        """Return the probability of a positive review, float32 `(reviews,)`."""
        size = self.variant.batch_size
        order = np.arange(len(self.labels[split]), dtype=np.int32)
        result = np.empty(len(order), dtype=np.float32)
        widths = self._widths(training=False)
        for width, ids in width_batches(self.lengths[split], order=order, batch_size=size, widths=widths):
            # The short batch is filled up, so that no further shape is compiled.
            inputs = self.reviews[split][np.resize(ids, size), -self._compiled(width) :].astype(np.int32)
            result[ids] = predict(self._model(inputs.shape[1], training=False), inputs)[: len(ids)]
        return result

    def targets(self, split: str) -> Floats:
        """Return the labels, 1 for a positive review, float32 `(reviews,)`."""
        return self.labels[split]

    def validation(self) -> dict[str, float]:
        """Return accuracy and cross-entropy of the validation split."""
        probability = self.predict("val").astype(np.float64).clip(1e-7, 1 - 1e-7)
        label = self.labels["val"]
        loss = -np.mean(np.where(label == 1, np.log(probability), np.log1p(-probability)))
        return {"val_loss": float(loss), "val_accuracy": float(np.mean((probability > 0.5) == (label == 1)))}

    def export(self) -> keras.Model:
        """Return the whole model: text, string `(batch, 1)`, in; probability `(batch, 1)` out."""
        import keras

        from tasks.models.networks.review_encoder import review_encoder

        text = keras.Input((1,), dtype="string", name="text")
        network = self.plain_network
        network.set_weights(self.network.get_weights())
        encoder = review_encoder(self.words, spaces=SPACES, apostrophes=APOSTROPHES)
        return keras.Model(text, network(encoder(text)), name="imdb")


def _words(splits: Mapping[str, pa.Table]) -> tuple[str, ...]:
    """Return the word index by rank; a rank without a word gets one with a space in it, which no text can hold."""
    word_of_rank = dict(zip(splits["words"]["rank"].to_pylist(), splits["words"]["word"].to_pylist(), strict=True))
    return tuple(word_of_rank.get(rank, f"rank {rank}") for rank in range(1, max(word_of_rank) + 1))


def _token_of_word(words: tuple[str, ...]) -> dict[str, int]:
    """Return the token of each word of the vocabulary, from the word index by rank."""
    return {word: token for token, word in enumerate(words, start=RANK_OFFSET + 1) if token < VOCABULARY_SIZE}


def _learner(
    splits: Mapping[str, pa.Table], normalisation: Mapping[str, Any], variant: Variant, accelerated: AcceleratedNetwork
) -> ImdbLearner:
    del normalisation
    return ImdbLearner(splits, words=_words(splits), accelerated=accelerated, variant=variant)


def _restore(splits: Mapping[str, pa.Table], normalisation: Mapping[str, Any], exported: keras.Model) -> ImdbLearner:
    """Translate today's tokens into the vocabulary that the exported model was trained on."""
    del normalisation
    theirs = _token_of_word(exported.get_layer("encode").words)
    ours = _words(splits)
    translated = dict(splits)
    if theirs != _token_of_word(ours):
        table = np.arange(VOCABULARY_SIZE, dtype=np.uint16)
        table[RANK_OFFSET:] = UNKNOWN
        for word, token in _token_of_word(ours).items():
            table[token] = theirs.get(word, UNKNOWN)
        for name in SPLITS:
            lists = splits[name]["tokens"].combine_chunks()
            tokens = pa.ListArray.from_arrays(lists.offsets, pa.array(table[lists.values.to_numpy()]))
            translated[name] = splits[name].drop_columns(["tokens"]).append_column("tokens", tokens)
    network = exported.get_layer("network")
    variant = restored(network)
    accelerated = accelerate_for_scoring(network, variant=variant)
    return ImdbLearner(translated, words=exported.get_layer("encode").words, accelerated=accelerated, variant=variant)


def _scored_split(learner: ImdbLearner) -> ScoredSplit:
    """Return probabilities; the naive baseline says the training split's more frequent label of every review."""
    label = learner.labels["test"]
    majority = np.float32(learner.labels["train"].mean() > 0.5)
    return ScoredSplit(
        prediction=learner.predict("test"),
        truth=label,
        naive=np.full_like(label, majority),
        scale=1.0,
        row=np.arange(len(label), dtype=np.int64),
    )


def _examples(learner: ImdbLearner, count: int) -> tuple[npt.NDArray[Any], Floats]:
    """Return the first reviews that text can say, string `(count, 1)`, which encodes to the very tokens that were predicted."""
    spelt = {token: word for word, token in _token_of_word(learner.words).items() if _can_be_said(word)}
    # A word of the index past the vocabulary is unknown; one that is not in the index would be left out.
    past_vocabulary = learner.words[VOCABULARY_SIZE - RANK_OFFSET - 1 :]
    unknown = next(filter(_can_be_said, past_vocabulary), None)
    if unknown is not None:
        spelt[UNKNOWN] = unknown
    rows = np.flatnonzero(np.isin(learner.reviews["test"], [PADDING, START, *spelt]).all(axis=1))[:count]
    texts = [" ".join(spelt[token] for token in review if token in spelt) for review in learner.reviews["test"][rows].tolist()]
    return np.array(texts, dtype=str)[:, None], learner.predict("test")[rows]


def _can_be_said(word: str) -> bool:
    """Tell whether a text can hold the word: the published index has words with characters that are read as a space."""
    return words_of(word) == [word.encode()]


def _plot_data(splits: Mapping[str, pa.Table], normalisation: Mapping[str, Any]) -> ReviewsPlot:
    del normalisation
    spelt = {token: word for word, token in _token_of_word(_words(splits)).items()} | {UNKNOWN: "…"}
    test = splits["test"]["tokens"]

    def text(place: int) -> str:
        return " ".join(spelt[token] for token in test[place].as_py() if token in spelt)

    lengths = pc.list_value_length(splits["train"]["tokens"]).to_numpy()
    return ReviewsPlot(lengths=lengths.astype(np.int64), read_tokens=REVIEW_TOKENS, text=text)


def _row_ids(table: pa.Table) -> RowIds:
    """Return ids of the reviews' tokens: a review that stands in two splits is the same row, whatever its place and label."""
    return content_ids(table.select(["tokens"]))


def _with_task(changes: Mapping[str, Any]) -> Problem:
    refuse_task(changes, task=PROBLEM.task, dataset=PROBLEM.dataset)
    return PROBLEM


def _is_better(new: Mapping[str, float], old: Mapping[str, float]) -> bool:
    return (new["val_accuracy"], -new["val_loss"]) > (old["val_accuracy"], -old["val_loss"])


PROBLEM = Problem(
    dataset="imdb",
    scoring=ClassificationScoring(),
    naive="majority",
    variants={variant.name: variant for variant in VARIANTS},
    learner=_learner,
    restore=_restore,
    scored_split=_scored_split,
    examples=_examples,
    plot_data=_plot_data,
    sample_budget=Budget(epochs=5, steps_per_epoch=None, patience_epochs=5),
    is_better=_is_better,
    validation_metric="val_accuracy",
    task={"target": "label", "review_tokens": REVIEW_TOKENS, "loss": "binary_crossentropy"},
    with_task=_with_task,
    default_variants=("gru_baseline", "gru_dropout"),
    tutorial_rows=50_000,
    row_ids=_row_ids,
)
