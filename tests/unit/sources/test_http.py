import pytest
from multidict import CIMultiDict
from yarl import URL

from aiopype.sources.http import origin_url, retry_after, server_time

NOW = 1_445_412_480.0  # 2015-10-21T07:28:00Z


@pytest.mark.parametrize(
    ("value", "seconds"),
    {
        "7": 7,
        "0": 0,
        "1.5": 1.5,
        "-3": 0,
        "nan": 0,
        "inf": 0,
        "": 0,
        "soon": 0,
        "Wed, 21 Oct 2015 07:29:00 GMT": 60,
        "Wed, 21 Oct 2015 09:29:00 +0200": 60,
        "Wed, 21 Oct 2015 07:27:00 GMT": 0,
        "Wed, 99 Oct 2015 07:28:00 GMT": 0,
    }.items(),
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert retry_after(CIMultiDict({"retry-after": value}), NOW) == seconds


def test_no_retry_after_is_no_wait():
    assert retry_after(CIMultiDict(), NOW) == 0


def test_a_date_to_retry_after_is_compared_with_the_servers_clock_which_may_be_wrong():
    headers = CIMultiDict(
        {"Date": "Wed, 21 Oct 2015 07:28:30 GMT", "Retry-After": "Wed, 21 Oct 2015 07:29:00 GMT"}
    )

    assert retry_after(headers, NOW + 3_600) == 30


@pytest.mark.parametrize(
    ("date", "time"),
    {
        "Wed, 21 Oct 2015 07:29:00 GMT": "2015-10-21T07:29:00+00:00",
        "Wed, 21 Oct 2015 09:29:00 +0200": "2015-10-21T07:29:00+00:00",
        "Wed, 21 Oct 2015 07:29:00": "2015-10-21T07:29:00+00:00",
        "yesterday": "2015-10-21T07:28:00+00:00",
        "": "2015-10-21T07:28:00+00:00",
    }.items(),
)
def test_the_servers_time_is_that_of_its_date_in_utc_or_this_machines(date, time):
    assert server_time(CIMultiDict({"date": date}), NOW) == time


@pytest.mark.parametrize(
    ("url", "told"),
    {
        "https://user:password@example.com:8443/a%20b/c?key=secret#part": (
            "https://example.com:8443/a%20b/c"
        ),
        "http://example.com": "http://example.com/",
        "nowhere?key=secret": "nowhere",
    }.items(),
)
def test_a_url_is_told_without_what_may_be_secret(url, told):
    assert origin_url(URL(url)) in {told, told.rstrip("/")}
