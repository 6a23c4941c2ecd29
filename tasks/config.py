"""What a person can set: these models become the form in the Prefect UI and the options of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from storage.environment import Environment, variable
from storage.errors import SettingError
from storage.redaction import hide_user
from tasks.choices import DataOrigin, PromoteMode, RunOn, Verdicts
from tasks.datasets import DATASETS
from tasks.datasets.request import QualityLimits, SplitSettings, mapping_of_text
from tasks.datasets.spec import SourceOptions

if TYPE_CHECKING:
    DatasetName = str
else:  # the form in the UI offers the names of the registry
    DatasetName = Literal[tuple(DATASETS)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Stamp = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?)?$")]
TableVersion = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]


_OPTION_MODELS = tuple(
    {source.options: None for spec in DATASETS.values() for source in spec.sources.values() if source.options.model_fields}
)
_SOURCES = "; ".join(f"{name}: {', '.join(spec.sources)}" for name, spec in DATASETS.items())
if TYPE_CHECKING:
    AnySourceOptions = SourceOptions
else:  # the form in the UI shows the fields of each
    AnySourceOptions = Union[_OPTION_MODELS]  # noqa: UP007


def _with_model_of_source(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings whose options, as plain values, are those of their source: two sources may have an option of one name."""
    source, options = str(values.get("source")), values.get("options")
    model = next((spec.sources[source].options for spec in DATASETS.values() if source in spec.sources), None)
    if model is None or model not in _OPTION_MODELS or not isinstance(options, dict):
        return values
    try:
        return {**values, "options": model(**options)}
    except ValidationError:
        return values  # what is wrong is said with the place of the option in the settings


class Settings(BaseModel):
    """A frozen group of settings; an unknown name is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(Settings):
    """Where the data comes from."""

    data: DataOrigin = Field(
        "auto",
        description="upstream: the publisher's hosts. mirror: the folder or URL in RETRAIN_MIRROR. sample: a small simulation "
        "of the project's own. auto: the mirror if one is named, else upstream; a command without a network takes the sample, "
        "with a warning, and a run of the service never does.",
    )
    source: str | None = Field(None, description=f"{_SOURCES}. None: the first of the data set.")
    options: AnySourceOptions = Field(
        default_factory=_OPTION_MODELS[0], description="Options of the source, where it has any. None: left out."
    )
    accept_digests: tuple[Digest, ...] = Field(
        (), description="SHA-256 digests of changed files that may replace the locked ones."
    )
    split: SplitSettings = Field(default_factory=SplitSettings, description="How the rows are divided.")
    limits: QualityLimits = Field(default_factory=QualityLimits, description="When the data is rejected.")
    accept_failures: tuple[TableVersion, ...] = Field(
        (),
        description="Table versions that are published although the quality of their readings is rejected, as the message of "
        "the rejected run names them. It holds for these versions alone.",
    )
    accept_reason: str | None = Field(None, min_length=10, max_length=500, description="Why the failures are accepted.")
    accepted_by: str | None = Field(None, min_length=2, max_length=100, description="Who accepts the failures.")
    stale_after_days: int = Field(
        14,
        ge=1,
        le=3650,
        description="A source that goes on to now and has brought no newer reading for so many days is reported as stale.",
    )

    @model_validator(mode="after")
    def _refuse_nameless_acceptance(self) -> Self:
        if self.accept_failures and not (self.accept_reason and self.accepted_by):
            raise ValueError("failures are accepted by a named person with a reason: give accept_reason and accepted_by")
        return self

    @model_validator(mode="before")
    @classmethod
    def _refuse_options_outside(cls, values: Any) -> Any:
        """Say where an option of a source belongs that stands beside the source."""
        if isinstance(values, dict):
            stray = [name for model in _OPTION_MODELS for name in model.model_fields if name in values]
            if stray:
                raise ValueError(f"{', '.join(stray)}: write the options of a source under options")
            return _with_model_of_source(values)
        return values


class ForecastSettings(Settings):
    """What a forecast is asked. Fields that are None take the data set's own value; a row is one reading of the table."""

    model_config = ConfigDict(title="Forecast")

    target: str | None = Field(
        None,
        pattern=r"^[a-z0-9_]+$",
        description="Column that is forecast. Models of another target or horizon are registered under a name of their own.",
    )
    horizon_rows: int | None = Field(None, ge=1, le=100_000, description="Rows from the end of a window to its target.")
    lookback_rows: int | None = Field(None, ge=1, le=100_000, description="Rows that a window covers; a multiple of step_rows.")
    step_rows: int | None = Field(None, ge=1, le=10_000, description="Spacing of the readings that a network sees, in rows.")

    def changes(self) -> dict[str, Any]:
        """Return what a person set."""
        return self.model_dump(exclude_none=True)


class TrainSettings(Settings):
    """How the variants are trained. Fields that are None take the variant's own value, or what their description says."""

    epochs: int | None = Field(None, ge=1, le=1000, description="Upper bound on the epochs. None: the variant's own.")
    steps_per_epoch: int | None = Field(None, ge=1, le=100_000, description="Steps an epoch. None: the variant's own.")
    patience_epochs: int = Field(
        10, ge=1, le=1000, description="Stop after this many epochs in a row without a better validation metric."
    )
    batch_size: int | None = Field(None, ge=1, le=4096, description="Examples a step. None: the variant's own.")
    learning_rate: float | None = Field(
        None, gt=0, lt=1, description="Learning rate of the optimizer, before any schedule. None: the variant's own."
    )
    forecast: ForecastSettings = Field(
        default_factory=ForecastSettings, description="What a forecast is asked; nothing of it for another kind of data set."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of weights, dropout and the order of batches.")
    threads: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Threads of one training on a CPU. None: the cores of the host, divided among the trainings of the run; "
        "one on a worker.",
    )
    timeout_hours: float = Field(
        24.0,
        gt=0,
        le=1000,
        description="A training that takes longer is given up; its checkpoint stays for the next run.",
    )
    run_on: RunOn | None = Field(
        None,
        description="local: in processes of the host that runs the flow. work_pool: as runs of the deployment train/train, "
        "on whatever worker serves the gpu pool. None: work_pool for a run of the service, local for a command.",
    )
    require_gpu: bool = Field(
        default=False, description="Refuse to train on a CPU. A worker with RETRAIN_REQUIRE_GPU=true refuses in any case."
    )

    def with_threads_for(self, trainings: int, *, cores: int) -> Self:
        """Return the settings of each of some trainings that run side by side on so many cores."""
        return self.model_copy(update={"threads": self.threads or max(1, cores // max(1, trainings))})


class PromotionSettings(Settings):
    """When the champion changes."""

    promote: PromoteMode = Field(
        "auto",
        description="auto: the best new version becomes champion if it passes every check. manual: a person decides. "
        "never: the champion stays.",
    )
    alpha: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Probability of a false promotion over all paired tests against one champion on the same test rows: each "
        "further test needs a smaller p-value.",
    )
    margin: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Relative gain over the champion that is enough without significance, in any number of tests. None: no gain.",
    )
    allow_baselines: bool = Field(
        default=False,
        description="Let a linear baseline become champion if it is the best by validation.",
    )
    refit: bool = Field(
        default=True,
        description="Train the version that passed again on the rows of every split, as many epochs as validation chose, and "
        "use that. It costs one more training; the scores shown stay those of the version that passed.",
    )
    wait_days: float = Field(
        7,
        gt=0,
        le=365,
        description="With manual, on the service: how many days the run approve waits for a person. The candidate stays a "
        "candidate after that.",
    )


class InputSettings(Settings):
    """A person's own file to predict from, in place of the newest table."""

    path: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="Readings: a csv, a csv in a zip or gz, or a Parquet file. Texts: a csv or Parquet file with a column review "
        "or text, or a text file with a review a line. A path on the host that runs the flow.",
    )
    columns: dict[str, str] | None = Field(
        None,
        max_length=100,
        description="Column of the file for each reading, or for review, that has another name there. In text: "
        "reading=column,reading=column.",
    )
    stamp_column: str | None = Field(None, min_length=1, max_length=200, description="Readings only: column of the time stamps.")
    stamp_format: str | None = Field(
        None, min_length=1, max_length=100, description="Readings only: form of the time stamps, such as %d.%m.%Y %H:%M."
    )

    @field_validator("columns", mode="before")
    @classmethod
    def _read_text(cls, value: Any) -> Any:
        return mapping_of_text(value)


class PredictSettings(Settings):
    """What is predicted. A forecast is issued as of the newest reading, if nothing else is set."""

    at: Stamp | None = Field(
        None, description="Forecast as of this stamp, such as 2024-06-01T12:00: nothing that was read later is known then."
    )
    first: Stamp | None = Field(None, description="Also forecast as of every stamp from this one on, up to `last`.")
    last: Stamp | None = Field(None, description="The last of these stamps. None: the newest reading.")
    every_rows: int | None = Field(
        None, ge=1, le=100_000, description="Also forecast as of earlier rows, so many rows apart. None: 1 from `first` on."
    )
    input: InputSettings = Field(default_factory=InputSettings, description="A file in place of the newest table.")
    texts: tuple[str, ...] = Field((), max_length=1000, description="Texts to classify, in place of a file.")

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if self.at and (self.first or self.last or self.every_rows):
            raise ValueError("`at` is one stamp: leave out `first`, `last` and `every_rows`, or leave out `at`")
        if self.last and not self.first:
            raise ValueError("`last` needs `first`: give both, or `at` alone")
        if self.texts and self.input.path:
            raise ValueError("texts and a file are both given: give one of them")
        return self


Person = Annotated[str, Field(min_length=2, max_length=100)]
Grounds = Annotated[str, Field(min_length=10, max_length=500)]
RegisteredModel = Annotated[str, Field(min_length=1, max_length=200)]


class RollbackSettings(Settings):
    """Which model goes back to its previous champion, who says so, and why."""

    model_config = ConfigDict(title="Rollback")

    model: RegisteredModel = Field(
        description="Registered model, called after its data set, with -sample for the simulation: see retrain models."
    )
    reason: Grounds = Field(description="Why the champion is taken out of use. The log keeps it, and later runs are told.")
    person: Person = Field(description="Who says so.")


class ApprovalRequest(Settings):
    """A version that passed every check and waits for a person."""

    model_config = ConfigDict(title="Candidate")

    model: RegisteredModel = Field(description="Version that would become champion, as MODEL@VERSION.")
    champion: str | None = Field(None, pattern=r"^v[0-9]+$", description="Champion that it was compared with. None: none.")
    grounds: str = Field(max_length=5000, description="What speaks for it.")
    wait_days: float = Field(7, gt=0, le=365, description="How many days the run waits for a person.")


class Verdict(Settings):
    """What a person says to a version that waits."""

    decision: Verdicts = Field(description="promote: it becomes champion, after a load check. reject: no run promotes it.")
    reason: Grounds = Field(description="Why. The log of decisions keeps it.")
    person: Person = Field(description="Who decides.")


class MonitorSettings(Settings):
    """When a model at work is reported. The defaults are those of docs/results.md: a season does not trip them."""

    error_days: int = Field(28, ge=1, le=366, description="Days over which errors, bias and coverage are averaged.")
    drift_days: int = Field(
        30, ge=7, le=180, description="Days of readings, or of reviews, that are compared with those that trained."
    )
    fault_days: int = Field(3, ge=1, le=30, description="Newest days in which broken sensors are sought.")
    clock_days: int = Field(30, ge=7, le=90, description="Days over which the daily cycle is averaged to see a shifted clock.")
    history_days: int = Field(366, ge=1, le=3660, description="Most days that the pictures go back.")
    min_predictions: int = Field(20, ge=1, le=100_000, description="Fewer predictions than this are not judged.")
    drift_factor: float = Field(
        1.25,
        ge=1,
        le=10,
        description="A series has drifted if PSI and Wasserstein distance are both above so many times the largest distance of a "
        "training year from the other ones.",
    )
    min_reference_years: int = Field(
        3,
        ge=1,
        le=50,
        description="Weeks that fewer of the training years have are not judged: fewer do not show how far years differ.",
    )
    min_psi: float = Field(0.25, gt=0, le=100, description="No PSI below this is drift.")
    min_wasserstein_std: float = Field(
        0.5, gt=0, le=100, description="No Wasserstein distance below this is drift, in standard deviations of the reference."
    )
    max_class_shift: float = Field(
        0.15,
        gt=0,
        le=1,
        description="Reviews: largest change of the mean probability against the share among those that trained.",
    )
    min_clock_shift_hours: float = Field(0.6, gt=0, le=12, description="No shift of the daily cycle below this is a fault.")
    max_broken_hours: float = Field(3, ge=0, lt=24, description="Hours of a day in which a physical tie may be broken.")
    max_error_ratio: float = Field(
        1.5,
        gt=1,
        le=100,
        description="The mean absolute error is too large above so many times that of the same weeks of the test split, and of "
        "what the error of persistence leads to expect.",
    )
    max_coverage_gap: float = Field(
        0.15,
        gt=0,
        le=0.8,
        description="An interval holds too seldom if its coverage is below what it promises by more than this, and by four "
        "standard errors too.",
    )
    max_repaired_share: float = Field(
        0.05, gt=0, le=1, description="Largest share of repaired values among the rows that came after those that trained."
    )


class ServeSettings(Settings):
    """What a server takes, and how it follows an alias."""

    max_rows: int = Field(64, ge=1, le=512, description="Windows or texts that a request may have.")
    max_body_bytes: int = Field(32 * 2**20, ge=1_000, le=2**30, description="Bytes that a request may have.")
    max_text_characters: int = Field(100_000, ge=1, le=10_000_000, description="Characters that a text may have.")
    max_waiting_rows: int = Field(
        1_024, ge=1, le=100_000, description="Windows or texts that may wait; a request beyond them is told to come again."
    )
    poll_s: float = Field(5.0, ge=0.1, le=3_600, description="Seconds between two questions where the alias points.")


def site_requires_gpu() -> bool:
    """Tell whether `RETRAIN_REQUIRE_GPU` refuses CPUs on this host."""
    return bool(Environment.read().require_gpu)


def mirror_address() -> str | None:
    """Return the mirror that `RETRAIN_MIRROR` names.

    Raises:
        SettingError: It is no address and no path.
    """
    mirror = Environment.read().mirror
    try:
        parts = urlsplit(mirror or "")
        is_sound = parts.scheme not in ("http", "https") or bool(parts.hostname and (parts.port or 1) >= 1)
    except ValueError:  # its text may hold a part of a password
        is_sound = False
    if not is_sound:
        raise SettingError(
            f"{variable('mirror')} is {hide_user(mirror or '')!r}, "
            "expected a folder or an address like http://host/folder: correct it"
        )
    return mirror
