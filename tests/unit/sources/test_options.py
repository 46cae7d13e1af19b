import pytest

from aiopype.errors import ConfigurationError
from aiopype.sources.options import Count, Seconds, SourceOptions, read_options


class Options(SourceOptions):
    page_size: Count = 50
    timeout: Seconds = 10.0
    since: str | None = None


class Others(SourceOptions):
    pass


def read(given=None):
    return read_options("m.source", Options, given)


@pytest.mark.parametrize("given", [None, {}])
def test_without_options_there_are_the_defaults(given):
    assert read(given) == Options()


def test_each_option_has_a_default():
    found = SourceOptions()

    assert (found.exception_threshold, found.expect_every, found.rate_limit) == (10, None, None)
    assert (found.first_delay_seconds, found.last_delay_seconds) == (1.0, 60.0)


def test_what_is_given_replaces_the_defaults():
    found = read({"page_size": 3, "expect_every": 60, "since": "2026"})

    assert found == Options(page_size=3, expect_every=60.0, since="2026")


def test_options_that_are_ready_are_taken_as_they_are():
    ready = Options(page_size=3)

    assert read(ready) is ready


def test_what_was_given_is_not_changed():
    given = {"page_size": 3}

    read(given)

    assert given == {"page_size": 3}


def test_the_options_of_another_source_are_refused():
    with pytest.raises(ConfigurationError, match=r"'m.source' takes Options, not Others"):
        read(Others())


@pytest.mark.parametrize("name", ["pagesize", "page_sise", "Page_size"])
def test_of_an_unknown_option_the_nearest_is_told(name):
    with pytest.raises(ConfigurationError) as caught:
        read({name: 3})

    assert str(caught.value) == (
        f"source 'm.source' has no option {name!r}; did you mean 'page_size'?"
    )


def test_of_an_option_that_is_like_none_all_are_told():
    with pytest.raises(ConfigurationError, match=r"no option 'zzz'; there are \['exception_thr"):
        read({"zzz": 3})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("page_size", 0, ">= 1"),
        ("page_size", -1, ">= 1"),
        ("page_size", "3", "Expected `int`"),
        ("page_size", True, "Expected `int`"),
        ("page_size", 2.5, "Expected `int`"),
        ("exception_threshold", 0, ">= 1"),
        ("timeout", 0, "> 0"),
        ("timeout", -0.1, "> 0"),
        ("timeout", None, "Expected `float`"),
        ("timeout", "10", "Expected `float`"),
        ("expect_every", 0, "> 0"),
        ("rate_limit", -1, "> 0"),
        ("first_delay_seconds", 0, "> 0"),
        ("last_delay_seconds", -1, "> 0"),
        ("since", 5, "Expected `str | null`"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_source_option_and_reason(name, value, reason):
    with pytest.raises(ConfigurationError) as caught:
        read({name: value})

    text = str(caught.value)
    assert text.startswith(f"source 'm.source': {name}={value!r}: Expected ")
    assert reason in text
    assert "$" not in text


@pytest.mark.parametrize("name", ["expect_every", "rate_limit", "since"])
def test_what_may_be_missing_can_be_given_as_none(name):
    assert getattr(read({name: None}), name) is None
