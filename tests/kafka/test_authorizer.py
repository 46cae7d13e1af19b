"""What a flow may do is asked of Kafka's own authorizer; what it lacks is told with what to do."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any

import pytest
from aiokafka.conn import create_conn
from aiokafka.protocol.admin import CreateAclsRequest

from .secured_kafka import SecuredKafka
from .test_security import PROGRAM

pytestmark = pytest.mark.kafka

# Kafka's numbers.
_KINDS = {"topic": 2, "group": 3, "transactional id": 5}
_OPERATIONS = {"read": 3, "write": 4, "create": 5, "describe": 8}
_LITERAL, _PREFIXED, _ALLOW = 3, 4, 3

#: What docs/security.md says that a flow needs.
TOPICS = (("topic", "{name}.*", "describe, read, write, create"),)
GROUPS = (("group", "{name}", "read, describe"), ("group", "{name}.sources", "read, describe"))
IDS = (
    ("transactional id", "{name}/*", "write, describe"),
    ("transactional id", "{name}.src.*", "write, describe"),
)


async def allow(secured: SecuredKafka, name: str, *rights: Iterable[tuple[str, str, str]]) -> None:
    """Give `guest` rights; a name that ends in `*` is a prefix."""
    host, _, port = secured.addresses["PLAINTEXT"].rpartition(":")
    connection = await create_conn(host, int(port))
    try:
        for kind, pattern, operations in (right for group in rights for right in group):
            named = pattern.format(name=name)
            how = _PREFIXED if named.endswith("*") else _LITERAL
            for operation in operations.split(", "):
                answer = await connection.send(
                    CreateAclsRequest(
                        _KINDS[kind], named.rstrip("*"), how, "User:guest", "*",
                        _OPERATIONS[operation], _ALLOW,
                    )
                )  # fmt: skip
                assert answer.creation_responses[0][0] == 0
    finally:
        connection.close()


def run(secured: SecuredKafka, start: Any, name: str) -> Any:
    return start(
        PROGRAM.format(name=name),
        command=("-m", "aiopype", "run", "program.py"),
        **secured.login("LOGIN", sasl_username="guest"),
    )


async def test_the_rights_that_are_documented_are_enough(
    secured: SecuredKafka, start: Any, wait_until: Any
) -> None:
    await allow(secured, "enough", TOPICS, GROUPS, IDS)
    program = run(secured, start, "enough")
    wait_until(lambda: "took 7" in program.text, seconds=60, what=program)
    program.send(signal.SIGTERM)
    assert program.wait(30) == 0
    assert " ERROR " not in program.text


async def test_a_flow_without_rights_on_its_topics_ends(secured: SecuredKafka, start: Any) -> None:
    program = run(secured, start, "topicless")
    assert program.wait(60) == 1
    assert "TopicAuthorizationFailedError" in program.text
    assert "give this client the right to describe, read and write it" in program.text


async def test_a_flow_without_rights_on_its_groups_ends(secured: SecuredKafka, start: Any) -> None:
    await allow(secured, "groupless", TOPICS, IDS)
    program = run(secured, start, "groupless")
    assert program.wait(60) == 1
    assert "this client may not join the group 'groupless" in program.text
    assert "give it the right to read and describe it" in program.text


async def test_a_flow_without_rights_on_its_own_group_only_ends(
    secured: SecuredKafka, start: Any
) -> None:
    await allow(secured, "ungrouped", TOPICS, GROUPS[1:], IDS)
    program = run(secured, start, "ungrouped")
    assert program.wait(60) == 1
    assert "this client may not join the group 'ungrouped'" in program.text


async def test_a_manager_without_rights_on_transactional_ids_is_down(
    secured: SecuredKafka, start: Any, wait_until: Any
) -> None:
    await allow(secured, "idless", TOPICS, GROUPS)
    program = run(secured, start, "idless")
    wait_until(lambda: "manager 'idless' is down" in program.text, seconds=60, what=program)
    program.send(signal.SIGTERM)
    assert program.wait(30) == 0
    assert "opening a transactional producer, idless/idless." in program.text
    assert "give this client the rights on transactional ids" in program.text
