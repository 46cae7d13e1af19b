import os
import threading

from aiopype.broker import lock


def test_only_one_has_the_lock_until_its_descriptor_is_closed(tmp_path):
    path = tmp_path / "broker.lock"
    first = lock.acquire(path)
    assert first is not None
    assert lock.acquire(path) is None
    os.close(first)
    second = lock.acquire(path)
    assert second is not None
    os.close(second)


def test_the_lock_lasts_as_long_as_any_copy_of_its_descriptor(tmp_path):
    path = tmp_path / "broker.lock"
    held = lock.acquire(path)
    assert held is not None
    copy = os.dup(held)
    os.close(held)
    assert lock.acquire(path) is None
    os.close(copy)
    assert lock.holder(path) is None


def test_what_the_holder_wrote_is_read_by_others(tmp_path):
    path = tmp_path / "broker.lock"
    held = lock.acquire(path)
    assert held is not None
    assert lock.holder(path) == {}
    lock.write(held, {"address": "127.0.0.1:65535", "pid": 123456})
    lock.write(held, {"pid": 1})
    assert lock.holder(path) == {"pid": 1}
    os.close(held)


def test_what_a_dead_holder_left_is_ignored(tmp_path):
    path = tmp_path / "broker.lock"
    path.write_text('{"address": "127.0.0.1:9092"}')
    assert lock.holder(path) is None
    assert lock.holder(tmp_path / "none") is None


def test_a_file_that_is_not_json_says_nothing(tmp_path):
    path = tmp_path / "broker.lock"
    held = lock.acquire(path)
    assert held is not None
    for text in ('{"addr', "[1]", "\0"):
        path.write_text(text)
        assert lock.holder(path) == {}
    os.close(held)


def test_looking_does_not_create_the_file_or_keep_others_out(tmp_path):
    path = tmp_path / "broker.lock"
    lock.holder(path)
    assert not path.exists()
    path.touch()
    lock.holder(path)
    held = lock.acquire(path)
    assert held is not None
    os.close(held)


def test_exclusive_waits_for_the_lock(tmp_path):
    path = tmp_path / "jars.lock"
    order = []
    waiting = threading.Event()

    def second():
        waiting.set()
        with lock.exclusive(path):
            order.append("second")

    thread = threading.Thread(target=second)
    with lock.exclusive(path):
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
