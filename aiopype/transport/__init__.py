"""Kafka, through Faust and aiokafka: records in, whole batches to agents, outputs and offsets back.

The only place, with `worker`, that knows these libraries. What a handler is, and what to do about
its failure, is not here. The way of a batch: `consumer` fetches it, `partition` takes it through
its subscriptions, `delivery` makes its outputs durable by `producer` and its offset by `ledger`.

Faust's own acknowledgements, commit timer, gaps, producer buffer and supervisor carry nothing
here: each of them loses events in some case (docs/adr/0002).
"""
