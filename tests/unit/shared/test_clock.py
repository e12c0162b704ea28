from datetime import UTC, datetime, timedelta, timezone

import pytest

from shared.clock import parse_timestamp, timestamp
from shared.errors import PeerFault


def test_times_travel_in_utc_with_milliseconds() -> None:
    moment = datetime(2026, 11, 21, 18, 15, 2, 123999, timezone(timedelta(hours=9)))
    assert timestamp(moment) == "2026-11-21T09:15:02.123Z"
    assert parse_timestamp("2026-11-21T09:15:02.123Z") == datetime(2026, 11, 21, 9, 15, 2, 123000, UTC)
    assert parse_timestamp("2026-12-01T00:00:00Z") == datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "2026-11-21",
        "2026-11-21T09:15:02",
        "2026-11-21 09:15:02Z",
        "2026-11-21T09:15:02+05:00Z",
        "2026-11-21T09:15:02.1Z",
        "2026-W47-6T09:15:02Z",
        "2026-02-30T09:15:02Z",
        "2026-11-21T25:15:02Z",
        "2026-11-21T09:15:02Z\n",
        "\u0662026-11-21T09:15:02Z",
    ],
)
def test_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(PeerFault, match="timestamp_malformed"):
        parse_timestamp(text)
