"""Whether a Kafka broker serves: one request, by hand, since no client library belongs here."""

import socket
import struct

__all__ = ["answers"]

_METADATA, _VERSION, _CORRELATION = 3, 2, 1


def answers(address: str, cluster: str = "", *, timeout: float = 1.0) -> bool:
    """Whether the broker at the address is ready for clients.

    It is asked for its metadata rather than its API versions, which it tells before it may lead a
    partition. The answer must list a broker: one that is still registering is not listed.

    Args:
        address: as `host:port`.
        cluster: the cluster's id, to be sure that it is no other broker; empty for any.
        timeout: seconds to wait for the connection and for each part of the answer.
    """
    host, _, port = address.rpartition(":")
    client = b"aiopype"
    # Metadata v2, the first with a cluster id: header (key, version, correlation, client), then
    # an empty list of topics, https://kafka.apache.org/protocol#The_Messages_Metadata
    head = struct.pack(">hhih", _METADATA, _VERSION, _CORRELATION, len(client))
    request = head + client + struct.pack(">i", 0)
    try:
        with socket.create_connection((host, int(port)), timeout) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as stream:
                (size,) = struct.unpack(">i", stream.read(4))
                answer = stream.read(min(size, 65536))
                correlation, brokers = struct.unpack_from(">ii", answer)
    except (OSError, struct.error, ValueError):
        return False
    return bool(correlation == _CORRELATION and brokers > 0 and cluster.encode() in answer)
