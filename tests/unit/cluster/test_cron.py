"""Cron: five fields in, six out."""

import pytest

from visionyard.cluster.cron import kfp_cron
from visionyard.errors import ConfigError


@pytest.mark.parametrize(
    ("five", "six"),
    [
        ("0 2 * * *", "0 0 2 * * *"),
        ("30 2 * * 7", "0 30 2 * * 0"),
        ("0 3 * * 5-7", "0 0 3 * * 0,5,6"),
        ("*/15 8-18 * * mon-fri", "0 */15 8-18 * * 1,2,3,4,5"),
        ("0 0 1 JAN,jul *", "0 0 0 1 1,7 *"),
        ("0 0 29 2 *", "0 0 0 29 2 *"),
        ("0 0 31 2 1", "0 0 0 31 2 1"),
        ("0  4   * * 0", "0 0 4 * * 0"),
    ],
    ids=[
        "every night",
        "Sunday as 7",
        "a range over Sunday",
        "steps and words",
        "months by name",
        "leap day",
        "a day that never comes, or Mondays",
        "wide gaps",
    ],
)
def test_five_fields_become_six(five: str, six: str):
    assert kfp_cron(five) == six


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("not a cron", "expected five fields .* got 3"),
        ("0 0 2 * * *", "got 6"),
        ("@daily", "got 1"),
        ("60 2 * * *", "minute = '60': expected 0 to 59"),
        ("0 24 * * *", "hour = '24'"),
        ("0 0 0 * *", "day of month = '0': expected 1 to 31"),
        ("0 0 * foo *", "month = 'foo': expected 1 to 12 or jan to dec"),
        ("0 0 * * 8", "day of week = '8'"),
        ("5/10 * * * *", "a step needs a range"),
        ("0 18-8 * * *", "the range runs backwards"),
        ("*/0 * * * *", "the step must be 1 to 59"),
        ("0 0 30 2 *", "no such month has a day 30, it would never start"),
        ("0 0 *-3 * *", r"expected \*, a number"),
        ("0 0 1,, * *", "day of month = ''"),
    ],
    ids=str,
)
def test_a_wrong_cron_is_refused(text: str, match: str):
    with pytest.raises(ConfigError, match=match):
        kfp_cron(text)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        kfp_cron("99 99 * * 9")
    assert len(caught.value.problems) == 3
