import socket

from aiopype.broker.probe import answers


def test_a_broker_that_lists_itself_answers(answering, metadata):
    assert answers(answering(metadata(1)))


def test_a_broker_that_is_still_registering_does_not_answer(answering, metadata):
    assert not answers(answering(metadata(0)))


def test_a_broker_of_another_cluster_is_not_taken_for_the_right_one(answering, metadata):
    address = answering(metadata(1, "theirs"))
    assert answers(address, "theirs")
    assert not answers(address, "ours")


def test_nonsense_and_cut_answers_are_no_answer(answering, metadata):
    assert not answers(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert not answers(answering(metadata(1)[:9]))
    assert not answers(answering(b""))


def test_a_port_nobody_listens_on_does_not_answer():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert not answers(f"127.0.0.1:{unused.getsockname()[1]}")


def test_an_open_port_that_says_nothing_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not answers(f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.05)
