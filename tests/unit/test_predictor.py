"""Predictors give what the exported models give, in batches of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from learner_helpers import CPU

from storage.errors import SettingError
from tasks.models import PROBLEMS
from tasks.models.engine.accelerated import accelerate_for_training
from tasks.models.predictor import BATCH_SIZES, WindowPredictor


def exported(dataset: str, *, tiny: Any, keras: Any) -> Any:
    """A network with new weights, exported."""
    problem = PROBLEMS[dataset]
    splits, normalisation = tiny(dataset)
    variant = problem.variants["gru_baseline"]
    accelerated = accelerate_for_training(variant, device=CPU, seed=3)
    return problem.learner(splits, normalisation, variant, accelerated).export()


@pytest.mark.parametrize("count", [1, 9, BATCH_SIZES[-1] + 3])
def test_windows_are_forecast_as_by_the_exported_model(count: int, tiny: Any, keras: Any) -> None:
    model = exported("jena", tiny=tiny, keras=keras)
    predictor = PROBLEMS["jena"].predictor(model)  # type: ignore[misc]
    assert isinstance(predictor, WindowPredictor)
    rng = np.random.default_rng(1)
    task = predictor.task
    readings = (rng.normal(size=(task.lookback_rows + count, len(task.columns))) * 8 + 10).astype(np.float32)
    rows = np.arange(count) + task.lookback_rows
    forecasts = predictor.predict_rows(readings, rows)
    few = [0, count // 2, count - 1]
    windows = np.stack([readings[rows[place] - task.lookback_rows : rows[place]] for place in few])
    expected = model.predict_on_batch(windows)[:, 0]
    np.testing.assert_allclose(forecasts[few], expected, atol=2e-4)
    np.testing.assert_allclose(predictor.predict_windows(windows), expected, atol=2e-4)


def test_nothing_is_forecast_from_no_window(tiny: Any, keras: Any) -> None:
    predictor: Any = PROBLEMS["jena"].predictor(exported("jena", tiny=tiny, keras=keras))  # type: ignore[misc]
    assert predictor.predict_rows(np.zeros((0, 14), np.float32), np.empty(0, np.int64)).shape == (0,)


def test_a_model_of_other_windows_is_refused(tiny: Any, keras: Any) -> None:
    other = PROBLEMS["jena"].with_task({"lookback_rows": 720})
    assert other.predictor
    with pytest.raises(SettingError, match=r"reads windows of \(rows, columns\) \(1440, 14\), and its task has \(720, 14\)"):
        other.predictor(exported("jena", tiny=tiny, keras=keras))


def test_texts_are_classified_as_by_the_exported_model(tiny: Any, keras: Any) -> None:
    model = exported("imdb", tiny=tiny, keras=keras)
    predictor: Any = PROBLEMS["imdb"].predictor(model)  # type: ignore[misc]
    words = [word for word in tiny("imdb")[0]["words"]["word"].to_pylist() if word.isalpha()]
    rng = np.random.default_rng(2)
    texts = [" ".join(rng.choice(words, size=length)) for length in (1, 5, 40, 180, 499, 500, 700)]
    texts += ["zzzz zzzz", f"<br />{words[0].upper()}!", "!!!"]
    predicted = predictor.predict_texts(texts)
    expected = model.predict_on_batch(np.array(texts, dtype=object)[:, None])[:, 0]
    np.testing.assert_allclose(predicted.probability, expected, atol=1e-5)
    assert predicted.tokens.tolist() == [2, 6, 41, 181, 500, 501, 701, 1, 2 + ("br" in words), 1]
    # Of "zzzz zzzz" nothing is known, and "!!!" has no word at all.
    assert predicted.unknown_share[7] == 1
    assert predicted.unknown_share[9] == 1
    assert predicted.unknown_share[2] == 0
    alone = [predictor.predict_texts([text]).probability[0] for text in texts]  # in a batch of few
    np.testing.assert_allclose(alone, predicted.probability, atol=1e-5)


@pytest.mark.parametrize("dataset", ["jena", "imdb"])
def test_nothing_is_compiled_after_the_warm_up(dataset: str, tiny: Any, keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.models import predictor as windows
    from tasks.models import review_network as reviews

    shapes: list[set[tuple[int, ...]]] = [set(), set()]
    for module in (windows, reviews):
        predict = module.predict

        def kept(model: Any, inputs: np.ndarray, predict: Any = predict) -> np.ndarray:
            shapes[-1].add(inputs.shape)
            result: np.ndarray = predict(model, inputs)
            return result

        monkeypatch.setattr(module, "predict", kept)
    predictor: Any = PROBLEMS[dataset].predictor(exported(dataset, tiny=tiny, keras=keras))  # type: ignore[misc]
    predictor.warm_up(30)
    shapes.append(set())
    for count in (1, 7, 30):
        if dataset == "jena":
            predictor.predict_windows(np.zeros((count, 1440, 14), dtype=np.float32))
        else:
            predictor.predict_texts(["the film"] * count)
            predictor.predict_texts(["the " * 600] * count)
    assert shapes[2] != set()
    assert shapes[2] <= shapes[1]
