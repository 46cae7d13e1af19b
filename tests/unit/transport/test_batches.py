import pytest

from aiopype.transport.batches import Batch


@pytest.fixture
def batch(record):
    """A batch of the offsets 1, 5 and 9, with 12 after them."""
    return Batch("partition", [record(offset=n) for n in (1, 5, 9)], 12)


def offsets(batch):
    return [record.offset for record in batch.records]


def test_what_is_cut_off_is_the_next_batch_and_begins_where_the_first_ends(batch):
    batch.emitted.append("output")

    batch.cut(1)

    assert (offsets(batch), batch.position, batch.emitted) == ([1], 5, ["output"])
    rest = batch.rest
    assert (rest.partition, offsets(rest), rest.position) == ("partition", [5, 9], 12)
    assert (rest.emitted, rest.parked, rest.rest) == ([], [], None)


def test_a_cut_at_the_end_is_no_cut(batch):
    batch.cut(3)

    assert (offsets(batch), batch.position, batch.rest) == ([1, 5, 9], 12, None)
