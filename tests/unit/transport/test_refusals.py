import pytest
from aiokafka import errors as kafka_errors

from aiopype.errors import BrokerError, DeliveryError, OutputRefused
from aiopype.transport.refusals import FAILURES, check_group, translated

REFUSED = [
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
    kafka_errors.InvalidTopicError,
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.UnsupportedForMessageFormatError,
    kafka_errors.TransactionalIdAuthorizationFailed,
    kafka_errors.GroupAuthorizationFailedError,
    BrokerError,
]
PASSING = [
    kafka_errors.RequestTimedOutError,
    kafka_errors.KafkaConnectionError,
    kafka_errors.NotEnoughReplicasError,
    kafka_errors.InvalidTxnState,
    kafka_errors.OutOfOrderSequenceNumber,
    kafka_errors.UnknownError,
    kafka_errors.ProducerFenced,
    TimeoutError,
    ConnectionResetError,
]


@pytest.mark.parametrize("error", [*REFUSED, *PASSING])
def test_an_error_tells_what_was_being_done_and_what_happened(error):
    raised = error("no such thing")
    assert isinstance(raised, FAILURES)

    text = str(translated(raised, "writing events"))

    assert text.startswith(f"writing events: {error.__name__} ")
    assert "no such thing" in text


@pytest.mark.parametrize("error", REFUSED)
def test_what_no_second_attempt_changes_is_a_refusal(error):
    assert type(translated(error(), "writing events")) is OutputRefused


@pytest.mark.parametrize("error", PASSING)
def test_anything_else_is_worth_another_attempt(error):
    assert type(translated(error(), "writing events")) is DeliveryError


def test_an_error_without_a_text_is_told_by_its_name():
    assert str(translated(TimeoutError(), "writing events")) == "writing events: TimeoutError"


def test_of_who_is_fenced_it_is_told_that_another_has_taken_over():
    error = translated(kafka_errors.ProducerFenced(), "writing events")

    assert "another worker has taken over meanwhile" in str(error)


@pytest.mark.parametrize(
    ("error", "rights"),
    [
        (kafka_errors.TransactionalIdAuthorizationFailed, "transactional ids"),
        (kafka_errors.GroupAuthorizationFailedError, "groups"),
        (kafka_errors.TopicAuthorizationFailedError, "topics"),
    ],
)
def test_a_right_that_is_missing_is_named(error, rights):
    text = str(translated(error("some"), "writing events"))

    assert text.endswith(f"give this client the rights on {rights} of docs/security.md")


class Coordinator:
    def __init__(self, error=None):
        self.error = error

    def check_errors(self):
        if self.error is not None:
            raise self.error


def test_a_group_of_which_nothing_is_heard_is_well():
    check_group(Coordinator(), "prices")


def test_a_group_that_this_client_may_not_join_is_named():
    refused = Coordinator(kafka_errors.GroupAuthorizationFailedError("prices"))

    with pytest.raises(BrokerError, match="may not join the group 'prices'; give it the right"):
        check_group(refused, "prices")


def test_another_error_of_a_group_stays_what_it_is():
    with pytest.raises(kafka_errors.UnknownMemberIdError):
        check_group(Coordinator(kafka_errors.UnknownMemberIdError()), "prices")
