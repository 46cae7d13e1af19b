"""What the tests of security share: one Kafka that asks who is there."""

from collections.abc import Iterator

import pytest

from . import secured_kafka


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[secured_kafka.SecuredKafka]:
    """A Kafka with TLS, SASL and an authorizer, of this run's own."""
    with secured_kafka.running(tmp_path_factory.mktemp("secured")) as kafka:
        yield kafka
