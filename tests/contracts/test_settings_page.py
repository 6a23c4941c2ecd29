"""docs/reference/settings.md: every setting of every model that becomes a form, as the models themselves describe it.

python tests/contracts/test_settings_page.py      (writes the page anew, after a change of a setting)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tasks import config
from tasks.config import Settings
from tasks.datasets import DATASETS
from tasks.datasets.request import QualityLimits, SplitSettings
from tasks.retention.settings import RetentionSettings
from tasks.verification.settings import VerificationSettings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "settings.md"
# Options of sources that only this project's own data sets have: whoever adds a data set need not renew the page.
OWN_DATA_SETS = ("jena", "imdb")
GROUPS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("Data", "`data` of `retrain`, `ingest` and `predict`", config.DataSettings),
    ("Split", "`split` of the data", SplitSettings),
    ("Limits", "`limits` of the data", QualityLimits),
    *(
        (str(source.options.model_config["title"]), f"`options` of the data, with the source `{name}`", source.options)
        for dataset in OWN_DATA_SETS
        for name, source in DATASETS[dataset].sources.items()
        if source.options.model_fields
    ),
    ("Training", "`training` of `retrain`, `train` and `promote`", config.TrainSettings),
    ("Forecast", "`forecast` of the training", config.ForecastSettings),
    ("Promotion", "`promotion` of `retrain` and `promote`", config.PromotionSettings),
    ("Prediction", "`settings` of `predict`", config.PredictSettings),
    ("Input", "`input` of the prediction", config.InputSettings),
    ("Monitoring", "`settings` of `monitor`", config.MonitorSettings),
    ("Serving", "options of `retrain serve`", config.ServeSettings),
    ("Retention", "`settings` of `gc`", RetentionSettings),
    ("Verification", "`settings` of `verify`", VerificationSettings),
    ("Rollback", "`settings` of `rollback`", config.RollbackSettings),
    ("Candidate", "what `approve` shows", config.ApprovalRequest),
    ("Verdict", "what `approve` asks", config.Verdict),
)
HEAD = """# Settings

What a person can set: in the form of a deployment in the Prefect UI, as parameters of a flow, and most of it as options of
[the command](commands.md). An unknown name or a value out of bounds is refused before anything starts. `None` means that the
setting follows from something else, as its description says. `python tests/contracts/test_settings_page.py` makes this page.
"""


def type_text(schema: Mapping[str, Any], *, titles: Mapping[str, str]) -> str:
    """Return what a value may be: its type, its choices or its bounds."""
    if "$ref" in schema:
        title = titles[str(schema["$ref"]).rsplit("/", 1)[-1]]
        return f"see [{title}](#{title.lower().replace(' ', '-')})"
    if "anyOf" in schema:
        return ", or ".join(type_text(each, titles=titles) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = str(schema.get("type", "any"))
    words = {"null": "None", "integer": "whole number", "boolean": "`true` or `false`", "string": "text", "object": "mapping"}
    if kind == "array":
        return f"several: {type_text(schema['items'], titles=titles)}"
    return words.get(kind, kind) + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    low, above = schema.get("minimum", schema.get("minLength")), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum", schema.get("maxLength")), schema.get("exclusiveMaximum")
    noun = " characters" if "minLength" in schema or "maxLength" in schema else ""
    parts = []
    if low is not None:
        parts.append(f"at least {low:,}")
    if above is not None:
        parts.append(f"above {above:,}")
    if high is not None:
        parts.append(f"at most {high:,}")
    if below is not None:
        parts.append(f"below {below:,}")
    return f" ({', '.join(parts)}{noun})" if parts else ""


def default_text(name: str, *, schema: Mapping[str, Any], required: bool) -> str:
    if required:
        return "has to be given"
    if "default" not in schema or isinstance(schema["default"], dict):
        return "as there" if "$ref" in schema else "none of them"
    value = schema["default"]
    if value is None:
        return "None"
    return "none" if value == [] else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def group_text(title: str, *, where: str, model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    titles = {name: next(title for title, _, each in GROUPS if each.__name__ == name) for name in schema.get("$defs", {})}
    lines = [f"## {title}", "", f"{where[0].upper() + where[1:]}. {(model.__doc__ or '').strip().splitlines()[0]}", ""]
    lines += ["| setting | value | default | meaning |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        cells = (
            f"`{name}`",
            type_text(field, titles=titles),
            default_text(name, schema=field, required=name in schema.get("required", ())),
            " ".join(str(field.get("description", "")).split()),
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def page_text() -> str:
    text = "\n".join([HEAD, *(group_text(title, where=where, model=model) for title, where, model in GROUPS)])
    for name in DATASETS.keys() - set(OWN_DATA_SETS):  # one that somebody adds
        text = text.replace(f"; {name}: {', '.join(DATASETS[name].sources)}", "")
    return text


def test_the_page_says_what_the_models_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page_text(), "renew it: python tests/contracts/test_settings_page.py"


def test_every_group_of_settings_is_on_the_page() -> None:
    described = {model for _, _, model in GROUPS}
    assert set(Settings.__subclasses__()) <= described
    assert {QualityLimits, SplitSettings} <= described


def test_every_setting_has_a_description() -> None:
    missing = [
        f"{title}.{name}" for title, _, model in GROUPS for name, field in model.model_fields.items() if not field.description
    ]
    assert missing == []


def test_bounds_are_told_in_words() -> None:
    """Of `epochs`, which is None or from 1 to 1,000, and of `alpha`, which lies strictly between 0 and 1."""
    epochs = config.TrainSettings.model_json_schema()["properties"]["epochs"]
    assert type_text(epochs, titles={}) == "whole number (at least 1, at most 1,000), or None"
    assert default_text("epochs", schema=epochs, required=False) == "None"
    alpha = config.PromotionSettings.model_json_schema()["properties"]["alpha"]
    assert type_text(alpha, titles={}) == "number (above 0, below 1)"
    assert default_text("alpha", schema=alpha, required=False) == "`0.05`"


if __name__ == "__main__":
    PAGE.write_text(page_text(), encoding="utf-8")
