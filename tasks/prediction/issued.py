"""The tables of issued predictions: their columns, and what makes a prediction the same as one that was issued before.

They lie in `predictions/<model>/<month>/`, in files that are never changed. Monitoring reads them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from upath import UPath

from storage.checksums import write_sum_beside
from storage.io import digest_of_json
from storage.layout import Store
from storage.tables import read_table, write_table
from tasks.intervals import LEVELS

DIGEST_DIGITS = 16
# Origin of forecasts from the data set's own tables. Those from a file of a person are not compared with what happened.
TABLE = "table"

_ISSUE = (
    ("model", pa.string()),
    ("model_version", pa.int32()),
    # Digest of what was read: of the readings of the window, or of the text.
    ("input_digest", pa.string()),
    # On the clock of the world, UTC.
    ("issued_at", pa.timestamp("s")),
)

# One row for each version, origin, last reading, and target. Stamps but for `issued_at` are on the clock of the series.
SERIES_SCHEMA = pa.schema(
    [
        *_ISSUE,
        ("origin", pa.string()),  # what was read: TABLE, or a person's own file with its digest
        ("as_of", pa.timestamp("s")),  # stamp of the last reading of the window
        ("target_time", pa.timestamp("s")),
        ("prediction", pa.float32()),  # in the target's unit, as the bounds
        *((f"{side}_{level}", pa.float32()) for level in LEVELS for side in ("lower", "upper")),  # null: no intervals known
        ("persistence", pa.float32()),  # the target's column at `as_of`
    ]
)

# One row for each version and text. No text is kept.
REVIEWS_SCHEMA = pa.schema(
    [
        *_ISSUE,
        ("label", pa.string()),
        ("probability", pa.float32()),  # of a positive review, calibrated where the version has a temperature
        ("raw_probability", pa.float32()),
        ("tokens", pa.int32()),  # before the review is cut to its last 500
        ("unknown_share", pa.float32()),  # of its words: outside the vocabulary
    ]
)

KEYS = {"series": ("model_version", "origin", "as_of", "target_time"), "reviews": ("model_version", "input_digest")}


def kind_of(table: pa.Table) -> str:
    """Return `series` or `reviews`: which of the two schemas a table of predictions has."""
    return "series" if "as_of" in table.column_names else "reviews"


def append_issued(predictions: pa.Table, *, model_name: str, store: Store) -> pa.Table:
    """Keep predictions that were not issued before, each in the file of its month, and return those that were new.

    Args:
        predictions: Of one of the two schemas, of one model.
        model_name: Registered model.
        store: Store that keeps them.
    """
    keys = KEYS[kind_of(predictions)]
    clock = "as_of" if "as_of" in keys else "issued_at"
    months = predictions[clock].to_numpy().astype("datetime64[M]")
    appended = []
    for month in np.unique(months):
        folder = store.predictions_folder(model_name) / str(month)
        part = predictions.filter(pa.array(months == month))
        part = part.filter(pa.array(_first_of_each(part, keys=keys)))
        known = _read_folder(folder, schema=predictions.schema, columns=keys) if kind_of(part) == "series" else None
        if known is None:  # a review can be issued again in any month
            known = read_issued(model_name, store=store, schema=predictions.schema).select(keys)
        part = part.filter(pa.array(~np.isin(_key_values(part, keys=keys), _key_values(known, keys=keys))))
        if part.num_rows:
            name = digest_of_json(_key_values(part, keys=keys).tolist(), length=DIGEST_DIGITS)
            write_table(part, folder / f"{name}.parquet")
            write_sum_beside(folder / f"{name}.parquet")
            appended.append(part)
    return pa.concat_tables(appended) if appended else predictions.slice(0, 0)


def read_issued(model_name: str, *, store: Store, schema: pa.Schema, since: np.datetime64 | None = None) -> pa.Table:
    """Return the issued predictions of a model in the order of their issue, each key once.

    Args:
        model_name: Registered model.
        store: Store that keeps them.
        schema: `SERIES_SCHEMA` or `REVIEWS_SCHEMA`.
        since: Month files that end before this stamp are not read; None reads all.

    Returns:
        Of a series those from its own tables alone.
    """
    root = store.predictions_folder(model_name)
    months = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    if since is not None:
        months = [month for month in months if np.datetime64(month, "M") >= since.astype("datetime64[M]")]
    parts = [_read_folder(root / month, schema=schema, columns=schema.names) for month in months]
    table = pa.concat_tables(parts) if parts else schema.empty_table()
    keys = KEYS[kind_of(table)]
    order = [(name, "ascending") for name in (("as_of", "issued_at") if "as_of" in keys else ("issued_at", "input_digest"))]
    table = table.sort_by(order).combine_chunks()
    if "origin" in keys:
        table = table.filter(pc.equal(table["origin"], TABLE))
    # Two hosts that issue the same at once may both write it.
    return table.filter(pa.array(_first_of_each(table, keys=keys)))


def _read_folder(folder: UPath, *, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    """Return some columns of all files of a month."""
    paths = sorted(folder.glob("*.parquet"), key=str) if folder.is_dir() else []
    chosen = pa.schema([schema.field(name) for name in columns])
    return pa.concat_tables([chosen.empty_table(), *(read_table(path, columns=columns).cast(chosen) for path in paths)])


def _key_values(table: pa.Table, *, keys: Sequence[str]) -> npt.NDArray[np.str_]:
    """Return one value a row that equals another's if all keys do."""
    parts = [np.asarray(table[name].to_pylist() if table[name].type == pa.string() else table[name].to_numpy()) for name in keys]
    joined = np.array([""] * table.num_rows, dtype=str)
    for part in parts:
        joined = np.char.add(np.char.add(joined, part.astype(str)), "|")
    return joined


def _first_of_each(table: pa.Table, *, keys: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Tell of each row whether it is the first with its keys."""
    first = np.zeros(table.num_rows, dtype=np.bool_)
    first[np.unique(_key_values(table, keys=keys), return_index=True)[1]] = True
    return first
