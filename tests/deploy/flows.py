"""A flow of a user's own: two managers, a topic of others, partitions in files, a namespace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiopype import AsyncFlow, Manager, Processor, Source
from aiopype.emitter import MessageHandler
from aiopype.sources import TopicSource

#: Partitions of `shop_orders.shop.order`, by its file.
PARTITIONS = 12


class Shop(Source):
    async def start(self) -> None:
        pass


class Till(Processor):
    def take(self, order: Any) -> None:
        self.emit("paid", order)

    def count(self, order: Any) -> None:
        pass


class Orders(Manager):
    name = "shop_orders"

    def __init__(self, handler: MessageHandler) -> None:
        super().__init__(handler)
        named = self.build_processor_name
        self.shop = Shop(named("shop"), handler)
        self.till = Till(named("till"), handler)
        self.shop.on("order", self.till.take)
        self.till.on("paid", self.till.count)


class Stock(Manager):
    name = "shop_stock"

    def __init__(self, handler: MessageHandler) -> None:
        super().__init__(handler)
        named = self.build_processor_name
        self.deliveries = TopicSource(
            named("deliveries"), handler, "warehouse.deliveries", {"begin": "latest"}
        )
        self.shelf = Till(named("shelf"), handler)
        self.deliveries.on("message", self.shelf.take)


class Config:
    FLOWS = ("shop_orders", "shop_stock")
    NAMESPACE = "eu"
    BROKER = "kafka-1.kafka:9092,kafka-2.kafka:9093"


def make(folder: Path, partitions: int = PARTITIONS) -> AsyncFlow:
    """Return the flow as if its file were in a folder, with a file of its topics beside it."""
    (folder / "topics").mkdir(exist_ok=True)
    (folder / "topics/shop_orders.toml").write_text(
        f'["shop.order"]\npartitions = {partitions}\n\n["till.paid"]\npartitions = 2\n'
    )
    flow = AsyncFlow(Config(), name="shop")
    flow.file = folder / "shop.py"
    return flow
