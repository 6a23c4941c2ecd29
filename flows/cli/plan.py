"""From the options of a command to the parameters of its runs, every one checked before a run starts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli.settings import first_error_text, without_none

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.datasets.spec import SourceOptions

# Options by the settings that they set: errors name the option that a person typed.
_OPTION_OF_SETTING = {
    "accept_digests": "--accept-digest",
    "epochs": "--epochs",
    "steps_per_epoch": "--steps",
    "patience_epochs": "--patience",
    "batch_size": "--batch-size",
    "learning_rate": "--learning-rate",
    "target": "--target",
    "horizon_rows": "--horizon-rows",
    "lookback_rows": "--lookback-rows",
    "step_rows": "--step-rows",
    "seed": "--seed",
    "margin": "--margin",
    "rule": "--split",
    "test_months": "--test-months",
    "validation_months": "--validation-months",
    "accept_failures": "--accept-failures",
    "accept_reason": "--reason",
    "reason": "--reason",
    "person": "--person",
}


def plan_runs(
    dataset: str, *, variants: str | None, data: dict[str, Any], training: dict[str, Any], promotion: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the parameters of one flow run for each data set. Every parameter is checked before a run starts.

    Raises:
        SettingError: A parameter cannot be; the message names the option that a person typed.
    """
    from pydantic import ValidationError

    from storage.errors import SettingError
    from tasks.config import DataSettings, PromotionSettings, TrainSettings, mirror_address
    from tasks.datasets import DATASETS, dataset_named
    from tasks.ingestion.fetching import resolve_origin, source_files
    from tasks.models import choose_variants, problem_named

    try:
        data = data | {"options": _source_options(data["source"], typed=data["options"])}
        data_settings = DataSettings(**without_none(data))
        train_settings = TrainSettings(**without_none(training))
        promotion_settings = PromotionSettings(**without_none(promotion))
    except ValidationError as error:
        raise SettingError(first_error_text(error, command="run", options=_option_of_setting())) from None
    names = tuple(DATASETS) if dataset == "all" else (dataset_named(dataset).name,)
    is_source_of_one = any(data_settings.source in dataset_named(name).sources for name in names)
    plan = []
    for name in names:
        if variants == "all":
            variant_names = tuple(problem_named(name).variants)
        else:
            variant_names = () if variants is None else tuple(variants.split(","))
        try:
            variant_names = choose_variants(variant_names, dataset=name, forecast=train_settings.forecast)
        except SettingError as error:
            raise SettingError(_with_option_names(str(error))) from None
        settings = data_settings
        if is_source_of_one and settings.source not in dataset_named(name).sources:
            # The source belongs to another data set, so this one takes its default source.
            settings = settings.model_copy(update={"source": None, "options": DataSettings().options})
        elif len(names) > 1 and settings.source is None:
            own = dataset_named(name).sources[dataset_named(name).default_source].options
            if type(settings.options) is not own:  # they belong to the default source of another data set
                settings = settings.model_copy(update={"options": DataSettings().options})
        try:
            source_files(dataset_named(name), settings)
        except SettingError as error:
            raise SettingError(_with_option_names(str(error))) from None
        resolve_origin(settings, mirror=mirror_address(), url="", can_reach=lambda _: True)
        plan.append(
            {
                "dataset": name,
                "variants": variant_names,
                "data": settings,
                "training": train_settings,
                "promotion": promotion_settings,
            }
        )
    return plan


def _source_options(source: str | None, *, typed: Mapping[str, Any]) -> SourceOptions | None:
    """Return the options of a source from the flags that a person typed; None: none was typed.

    Raises:
        SettingError: The source has no such option.
        ValidationError: An option has a value that it cannot have.
    """
    from storage.errors import SettingError
    from tasks.datasets import DATASETS

    sources = {name: each for spec in DATASETS.values() for name, each in spec.sources.items()}
    default_sources = [spec.sources[spec.default_source] for spec in DATASETS.values()]
    asked = [sources[source]] if source in sources else [] if source else default_sources
    model_of = {flag: each.options for each in asked for flag in each.options.flags()}
    values = {flag: value for flag, value in typed.items() if value}
    stray = [flag for flag in values if flag not in model_of]
    if stray and (source is None or source in sources):
        owners = " or ".join(name for name, each in sources.items() if set(stray) <= set(each.options.flags()))
        raise SettingError(f"{' and '.join(stray)} belong to another source: add --source {owners}, or leave them out")
    if stray or not values:
        return None
    model = model_of[next(iter(values))]
    fields = {model.flags()[flag]: value for flag, value in values.items()}
    if "path" in fields and "://" not in fields["path"]:
        # A run may work in another folder than the person who types.
        fields["path"] = str(Path(fields["path"]).expanduser().absolute())
    return model(**fields)


def _option_of_setting() -> dict[str, str]:
    """Return the option for each setting that has one, those of every source among them."""
    from tasks.datasets import DATASETS

    options = dict(_OPTION_OF_SETTING)
    for spec in DATASETS.values():
        for source in spec.sources.values():
            options |= {field: flag for flag, field in source.options.flags().items()}
    return options


def _with_option_names(message: str) -> str:
    """Return a message with the names of settings replaced by the options that a person types."""
    for setting, option in _option_of_setting().items():
        # A setting of one word is a word of the language too; its value or its fault follows it where it is meant.
        pattern = rf"\b{setting}\b" if "_" in setting else rf"\b{setting}(?= (is|begins|'))"
        message = re.sub(pattern, option, message)
    return message


def acceptance(versions: list[str] | None, *, reason: str | None) -> dict[str, Any]:
    """Return the settings by which the person at the terminal accepts failures."""
    import getpass

    if not versions:
        return {"accept_reason": reason}
    return {"accept_failures": tuple(versions), "accept_reason": reason, "accepted_by": getpass.getuser()}


def limits_of(typed: list[str] | None) -> dict[str, str]:
    """Return limits by name from texts such as `missing_values=0.01`.

    Raises:
        SettingError: A text has no `=`, or there is no such limit.
    """
    from storage.errors import SettingError, unknown
    from tasks.datasets.request import QualityLimits

    limits = {}
    for text in typed or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise SettingError(f"--limit is {text!r}: give a name and a value such as missing_values=0.01")
        if name not in QualityLimits.model_fields:
            raise unknown("limit", name, where="--limit", choices=QualityLimits.model_fields)
        limits[name] = value
    return limits
