"""Time stamps: the forms that are told apart, what exists, and what could be read in two ways."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import DataError
from tasks.datasets.jena.stamps import checked_format, seconds_of

FORMATS = (
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M:%S",
    "%Y%m%d%H%M%S",
    "%H:%M on %d-%m-%Y",
    "Zeit: %d.%m.%Y um %H.%M Uhr",
)


def read(*stamps: str, stamp_format: str = "auto") -> list[str]:
    cells = pa.array([stamp.encode() for stamp in stamps], type=pa.binary())
    seconds = seconds_of(cells, stamp_format=stamp_format, header="Date Time", place=lambda row: f"roof.csv, line {row + 2}")
    assert seconds.dtype == np.int64
    return [str(moment) for moment in seconds.astype("datetime64[s]")]


moments = st.lists(
    st.datetimes(min_value=pd.Timestamp("1900-01-01").to_pydatetime(), max_value=pd.Timestamp("2199-12-31").to_pydatetime()),
    min_size=1,
    max_size=20,
)


@settings(max_examples=60)
@given(moments=moments, stamp_format=st.sampled_from(FORMATS))
def test_every_stamp_is_read_as_python_reads_it(moments: list[Any], stamp_format: str) -> None:
    moments = [moment.replace(microsecond=0, second=moment.second if "%S" in stamp_format else 0) for moment in moments]
    stamps = [moment.strftime(stamp_format) for moment in moments]
    assert read(*stamps, stamp_format=stamp_format) == [moment.isoformat() for moment in moments]


@settings(max_examples=60)
@given(moments=moments)
def test_the_station_s_form_is_told_from_the_stamps(moments: list[Any]) -> None:
    moments = [moment.replace(microsecond=0) for moment in moments]
    assert read(*(moment.strftime("%d.%m.%Y %H:%M:%S") for moment in moments)) == [moment.isoformat() for moment in moments]


def test_a_slice_of_stamps_is_read_from_its_place() -> None:
    cells = pa.array([b"01.01.2009 00:10:00", b"02.01.2009 00:10:00", b"03.01.2009 00:10:00"])[1:]
    seconds = seconds_of(cells, stamp_format="auto", header="x", place=str)
    assert [str(moment) for moment in seconds.astype("datetime64[s]")] == ["2009-01-02T00:10:00", "2009-01-03T00:10:00"]


@pytest.mark.parametrize(
    ("stamps", "moments"),
    [
        (["1.1.2009 0:10", "12.10.2009 10:20"], ["2009-01-01T00:10:00", "2009-10-12T10:20:00"]),
        (["12/31/2009 0:10", "1/2/2010 10:20"], ["2009-12-31T00:10:00", "2010-01-02T10:20:00"]),
        ([" 01.01.2009 00:10:00", '"02.01.2009 00:10:00" '], ["2009-01-01T00:10:00", "2009-01-02T00:10:00"]),
        (["29.02.2020 23:50:00"], ["2020-02-29T23:50:00"]),
    ],
    ids=["no leading zeros", "a spreadsheet's", "blanks and quotes", "leap day"],
)
def test_stamps_by_hand(stamps: list[str], moments: list[str]) -> None:
    assert read(*stamps) == moments


@pytest.mark.parametrize(
    "stamp",
    [
        "31.02.2009 00:30:00",
        "29.02.2009 00:30:00",
        "00.01.2009 00:30:00",
        "01.13.2009 00:30:00",
        "01.00.2009 00:30:00",
        "01.01.2009 24:00:00",
        "01.01.2009 00:60:00",
        "01.01.2009 00:00:60",
        "30.02.0000 00:00:00",
    ],
)
def test_a_stamp_that_does_not_exist_is_named(stamp: str) -> None:
    message = (
        f"roof.csv, line 3: {stamp!r} in timestamp (Date Time), which does not exist as dd.mm.yyyy HH:MM:SS: correct this row"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        read("01.01.2009 00:10:00", stamp, "01.01.2009 00:40:00")


@pytest.mark.parametrize(
    "stamp",
    [
        "2009-01-01 00:30:00",
        "1.1.2009 0:30:00",
        "01.01.2009 00:30",
        "01.01.09 00:30:00",
        "0x.01.2009 00:30:00",
        "",
        "01/01/2009 00:30",
        "01.01.2009 00:30:00.5",
        "01.01.2009 00:30:00Z",
        "01.01.2009",
        "Ä",
    ],
)
def test_mixed_forms_are_named(stamp: str) -> None:
    message = (
        f"roof.csv, line 3: {stamp!r} in timestamp (Date Time), expected dd.mm.yyyy HH:MM:SS such as 01.01.2009 00:10:00 as in "
        "the first row: correct the file, or set --stamp-format"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        read("01.01.2009 00:20:00", stamp)


@pytest.mark.parametrize(
    "stamp", ["2009-01-01T00:30:00Z", "2009-01-01 00:30:00+01:00", "01.01.09 00:30", "1230768600", "", "noon"]
)
def test_a_form_that_is_not_known_is_refused(stamp: str) -> None:
    message = (
        f"roof.csv, line 2: {stamp!r} in timestamp (Date Time), expected dd.mm.yyyy HH:MM:SS such as 01.01.2009 00:10:00, or "
        "ISO 8601 without a zone such as 2009-01-01 00:10:00: correct the file, or set --stamp-format"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        read(stamp)


@pytest.mark.parametrize("mark", ["/", "-"])
def test_day_and_month_in_either_order_are_refused_unless_a_stamp_decides(mark: str) -> None:
    def stamps(*texts: str) -> list[str]:
        return [text.replace("/", mark) for text in texts]

    message = (
        f"roof.csv, line 3: '03{mark}04{mark}2020 00:10' in timestamp (Date Time), which could be dd{mark}mm{mark}yyyy HH:MM or "
        f"mm{mark}dd{mark}yyyy HH:MM: set --stamp-format to %d{mark}%m{mark}%Y %H:%M or %m{mark}%d{mark}%Y %H:%M"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        read(*stamps("03/03/2020 00:10", "03/04/2020 00:10"))
    assert read(*stamps("03/04/2020 00:10", "13/04/2020 00:10")) == ["2020-04-03T00:10:00", "2020-04-13T00:10:00"]
    assert read(*stamps("03/04/2020 00:10", "03/13/2020 00:10")) == ["2020-03-04T00:10:00", "2020-03-13T00:10:00"]
    # Both orders mean the same day.
    assert read(*stamps("03/03/2020 00:10")) == ["2020-03-03T00:10:00"]
    order = f"%d{mark}%m{mark}%Y %H:%M"
    assert read(*stamps("03/04/2020 00:10"), stamp_format=order) == ["2020-04-03T00:10:00"]


def test_two_orders_in_one_file_are_refused() -> None:
    message = (
        "roof.csv, line 4: '03/13/2020 00:10' in timestamp (Date Time), which with the rows before is neither dd/mm/yyyy HH:MM "
        "nor mm/dd/yyyy HH:MM: write all stamps in one form"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        read("01/02/2020 00:10", "13/04/2020 00:10", "03/13/2020 00:10")


@pytest.mark.parametrize(
    "stamps", [("1.1.2009 00:10", "01.01.2009 00:20"), ("01.01.2009 0:10", "1.01.2009 0:20"), ("1.1.2009 9:10", "1.1.2009 09:20")]
)
def test_leading_zeros_are_left_out_everywhere_or_nowhere(stamps: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"line 3: .* as in the first row"):
        read(*stamps)


def test_a_format_that_is_set_is_the_only_one() -> None:
    with pytest.raises(
        DataError, match=r"line 2: '01\.01\.2009 00:10:00' .*, expected yyyy-mm-dd HH:MM such as 2009-01-01 00:10: corr"
    ):
        read("01.01.2009 00:10:00", stamp_format="%Y-%m-%d %H:%M")


@pytest.mark.parametrize("text", ["%d.%m.%Y", "%d.%m.%y %H:%M", "%d.%m.%Y %H:%M %H", "%d.%m.%Y %I:%M %p", "%s", "", "%", "noon"])
def test_formats_that_say_no_moment_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected %Y %m %d %H %M once each, and %S if there are seconds"):
        checked_format(text)


def test_formats_that_say_a_moment_are_taken() -> None:
    assert [checked_format(text) for text in FORMATS] == list(FORMATS)
