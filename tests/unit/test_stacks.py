import asyncio
import re
import time

from aiopype.stacks import describe_tasks


async def stuck():
    await asyncio.sleep(1e6)


async def test_the_stack_of_a_task_goes_down_to_where_it_waits():
    async def outer():
        await stuck()

    task = asyncio.create_task(outer(), name="agent of t")
    await asyncio.sleep(0)

    text = await asyncio.to_thread(describe_tasks, asyncio.get_running_loop())
    task.cancel()

    _, _, told = text.partition("Task 'agent of t'")
    line = stuck.__code__.co_firstlineno + 1
    assert "in outer" in told
    assert f'File "{__file__}", line {line}, in stuck' in told
    assert "in sleep" in told


async def test_the_stack_goes_on_through_awaitables_and_asynchronous_generators():
    class Awaitable:
        def __await__(self):
            return stuck().__await__()

    async def numbers():
        await Awaitable()
        yield 1

    async def outer():
        async for _ in numbers():
            pass

    task = asyncio.create_task(outer(), name="agent of t")
    await asyncio.sleep(0)

    text = describe_tasks(asyncio.get_running_loop())
    task.cancel()

    _, _, told = text.partition("Task 'agent of t'")
    assert re.findall(r"in (\w+)", told.partition("awaits")[0]) == [
        "outer", "numbers", "stuck", "sleep",
    ]  # fmt: skip


async def test_a_task_that_waits_for_something_without_a_stack_names_its_kind():
    task = asyncio.create_task(asyncio.Event().wait(), name="waits")
    await asyncio.sleep(0)

    text = describe_tasks(asyncio.get_running_loop())
    task.cancel()

    assert "awaits FutureIter" in text


async def test_tasks_that_come_and_go_do_not_break_the_dump():
    loop = asyncio.get_running_loop()
    until = time.monotonic() + 0.3
    texts = []

    def dump():
        while time.monotonic() < until:
            texts.append(describe_tasks(loop))

    dumping = asyncio.create_task(asyncio.to_thread(dump))
    while not dumping.done():
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(50)))
    await dumping

    assert len(texts) > 1
