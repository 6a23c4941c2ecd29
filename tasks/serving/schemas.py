"""The JSON that is asked and answered; OpenAPI shows it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema


def _as_array(value: Any) -> np.ndarray:
    """Return nested lists of numbers as an array; at once, because a window has thousands of numbers."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError("windows differ in their number of rows or columns: send as many in each") from None
    if array.dtype.kind not in "fiu":
        raise ValueError("windows hold something that is no number: send numbers alone, and fill what is missing before")
    return array


_NUMBERS = {"type": "array", "minItems": 1, "items": {"type": "number"}}
Windows = Annotated[
    Any,
    PlainValidator(_as_array),
    WithJsonSchema({"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 1, "items": _NUMBERS}}),
]


class Body(BaseModel):
    """A JSON object; an unknown name is refused."""

    model_config = ConfigDict(extra="forbid")


class TextsRequest(Body):
    """Texts to classify."""

    texts: list[str] = Field(min_length=1, description="One or more texts, each with at least one word.")


class WindowsRequest(Body):
    """Windows of readings to forecast from."""

    windows: Windows = Field(
        description="Windows of consecutive readings in their own units, oldest first: [window][row][column]. How many rows a "
        "window has, and which columns in which order, is told by /version."
    )
    columns: list[str] | None = Field(None, description="Names of the columns in the order that was sent, where it is another.")
    last_timestamps: list[datetime] | None = Field(
        None,
        description="Stamp of the last reading of each window, on the clock of the series, without a time zone. With them the "
        "answer has the time of the target, and intervals where the version has some.",
    )


class ModelName(BaseModel):
    """The version that answered."""

    name: str
    version: int


class TextPrediction(BaseModel):
    """What the model says of one text."""

    label: Literal["positive", "negative"]
    probability: float = Field(description="Of a positive text, calibrated where the version has a calibration.")
    raw_probability: float = Field(description="As the network gives it.")
    unknown_word_share: float = Field(description="Share of the words that the model does not know; high in another language.")


class TextsResponse(BaseModel):
    """One prediction a text, in their order."""

    model: ModelName
    predictions: list[TextPrediction]


class WindowPrediction(BaseModel):
    """The forecast from one window, in the unit of the answer; what is not known is null."""

    prediction: float
    target_timestamp: datetime | None = None
    lower_80: float | None = None
    upper_80: float | None = None
    lower_95: float | None = None
    upper_95: float | None = None


class WindowsResponse(BaseModel):
    """One forecast a window, in their order."""

    model: ModelName
    target: str = Field(description="Column that is forecast.")
    unit: str
    horizon_seconds: int = Field(description="From the last reading of a window to the target of its forecast.")
    predictions: list[WindowPrediction]


class Health(BaseModel):
    """Whether the server answers, and with what."""

    status: Literal["ok", "outdated"] = Field(
        description="outdated: the alias cannot be followed; the old version still answers."
    )
    model: ModelName
    reference: str = Field(description="What is served, as it was asked for.")
    loaded_at: datetime
    checked_at: datetime | None = Field(None, description="When the registry last told where the alias points.")
    problem: str | None = None


class InputShape(BaseModel):
    """What a window is."""

    rows: int
    columns: list[str]
    row_seconds: int


class Version(BaseModel):
    """What answers, and what it takes."""

    model: ModelName
    variant: str
    uri: str
    run_id: str
    created: str
    table_version: str
    window: InputShape | None = Field(None, description="None: the model reads texts.")
    has_uncertainty: bool = Field(description="Whether the version has intervals, or calibrated probabilities.")
    max_rows: int
    max_body_bytes: int
    max_text_characters: int
    libraries: dict[str, str]


class ErrorDetail(BaseModel):
    """One thing that is wrong, and where in the request."""

    place: str
    message: str


class Error(BaseModel):
    """What is wrong with a request."""

    code: str
    message: str
    details: list[ErrorDetail] = Field(default_factory=list)


class ErrorResponse(BaseModel):
    """The body of every answer that is no success."""

    error: Error
