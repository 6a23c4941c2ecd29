"""IMDB as the networks see it: the last 500 words of a review in, the probability that it is positive out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import SettingError
from tasks.datasets.imdb.ranks import encode
from tasks.datasets.imdb.text import APOSTROPHES, SPACES, rank_words, words_of
from tasks.datasets.row_ids import RowIds, content_ids
from tasks.datasets.spec import SPLITS
from tasks.datasets.tokens import PADDING, RANK_OFFSET, REVIEW_TOKENS, START, UNKNOWN, VOCABULARY_SIZE
from tasks.models.engine.accelerated import AcceleratedNetwork, accelerate_for_scoring
from tasks.models.engine.execution import ExecutionNote
from tasks.models.engine.shared_prefix import padding_mode
from tasks.models.networks.imdb import VARIANTS
from tasks.models.predictor import PredictedTexts
from tasks.models.review_network import ReviewNetwork, padded_tokens, review_lengths, width_batches
from tasks.models.spec import Batch, Budget, Floats, Ids, Problem, ReviewsPlot, ScoredSplit, Variant, refuse_task, restored
from tasks.scoring import ClassificationScoring

if TYPE_CHECKING:
    import keras


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
        self.lengths = {name: review_lengths(reviews) for name, reviews in self.reviews.items()}
        self.plain_network = accelerated.plain
        self.execution, self._accelerated = accelerated.execution, accelerated
        self.variant = variant
        self.optimizer = accelerated.optimizer
        self._reviews = ReviewNetwork(accelerated, variant=variant)

    @property
    def network(self) -> keras.Model:
        """The network that predicts and is trained."""
        return self._reviews.network

    @network.setter
    def network(self, network: keras.Model) -> None:
        """Take the network that a linear baseline was solved as."""
        self._reviews.network = network

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
        elif self._reviews.drops:
            padding = ExecutionNote(f"{full}, because masks of dropout belong to one review", "leave dropout out of the layer")
        else:
            padding = ExecutionNote("padding: the steps that every review of a batch pads are run once, at batch size 1")
        return (*self._accelerated.describe(), padding)

    def batches(self, *, seed: int, epoch: int, steps: int | None) -> tuple[int, Iterator[Batch]]:
        """Return one pass over the training split, or its first `steps`, reviews of like length together."""
        lengths, widths = self.lengths["train"], self._reviews.widths(training=True)
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(lengths)).astype(np.int32)
        batches = width_batches(lengths, order=order, batch_size=self.variant.batch_size, widths=widths)[:steps]
        # Where a review is longer than what training reads of it, another part of it is read each time.
        excess = np.maximum(lengths - widths[-1], 0)
        ends = REVIEW_TOKENS - (rng.integers(excess + 1) if self.variant.crop_tokens else np.zeros_like(excess))
        return len(batches), (self._batch(width, ids, ends=ends[ids]) for width, ids in batches)

    def _batch(self, width: int, ids: Ids, *, ends: npt.NDArray[np.integer[Any]]) -> Batch:
        columns = np.arange(-self._reviews.compiled_width(width), 0)
        inputs = self.reviews["train"][ids[:, None], ends[:, None] + columns].astype(np.int32)
        return Batch(self._reviews.model(inputs.shape[1], training=True), inputs, self.labels["train"][ids][:, None])

    def predict(self, split: str) -> Floats:
        """Return the probability of a positive review, float32 `(reviews,)`."""
        return self._reviews.predict(self.reviews[split])

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


class ReviewPredictor:
    """Predicts raw reviews: by the data set's rule for text, the model's own words, and the network's fast copy."""

    def __init__(self, exported: keras.Model) -> None:
        """Take the network and the words out of an exported model."""
        words = exported.get_layer("encode").words
        self._ranks = {word.encode(): rank for rank, word in enumerate(words, start=1)}
        network = exported.get_layer("network")
        variant = restored(network)
        self._reviews = ReviewNetwork(accelerate_for_scoring(network, variant=variant), variant=variant)

    def predict_texts(self, texts: Sequence[str]) -> PredictedTexts:
        """Return what the model says of each text."""
        split_texts = [words_of(text) for text in texts]
        ranks = rank_words(split_texts, ranks=self._ranks)
        probability = self._reviews.predict(padded_tokens(pa.chunked_array([encode(ranks).arrow(pa.uint16())])))
        words = np.array([len(each) for each in split_texts], dtype=np.int64)
        in_vocabulary = np.concatenate([[0], np.cumsum(ranks.flat + RANK_OFFSET < VOCABULARY_SIZE)])
        read = in_vocabulary[ranks.starts + ranks.lengths] - in_vocabulary[ranks.starts]
        unknown_share = 1 - read / np.maximum(words, 1)
        return PredictedTexts(probability, ranks.lengths + 1, unknown_share.astype(np.float32))

    def warm_up(self, max_rows: int) -> None:
        """Compile what predicting up to so many texts at once needs."""
        self._reviews.warm_up(max_rows)


def _scored_split(learner: ImdbLearner, *, split: str = "test") -> ScoredSplit:
    """Return probabilities; the naive baseline says the training split's more frequent label of every review."""
    label = learner.labels[split]
    majority = np.float32(learner.labels["train"].mean() > 0.5)
    return ScoredSplit(
        prediction=learner.predict(split),
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


def _arrays(splits: Mapping[str, pa.Table], split: str, every: int) -> tuple[npt.NDArray[Any], Floats]:
    """Return tokens, int32 `(reviews, 500)`, and labels `(reviews, 1)` of a split, one review of so many."""
    label = splits[split]["label"].to_numpy().astype(np.float32)
    return padded_tokens(splits[split]["tokens"])[::every].astype(np.int32), label[::every, None]


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
    scored_validation=partial(_scored_split, split="val"),
    arrays=_arrays,
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
    predictor=ReviewPredictor,
)
