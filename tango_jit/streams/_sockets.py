"""ZeroMQ sockets as this package wants them: no lingering, dead hosts noticed, errors in words."""

from __future__ import annotations

import zmq

from tango_jit.streams._payloads import LARGEST_BYTES


def open_socket(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, *, largest: int = LARGEST_BYTES
) -> zmq.Socket[bytes]:
    """A socket that drops connections which announce a part above `largest` bytes.

    TCP keep-alive, not ZeroMQ's heartbeat: it tells a dead host (after 25 s) but lets a stopped process be,
    whose frames then wait instead of being lost.
    """
    socket = context.socket(kind)
    socket.linger = 0
    socket.maxmsgsize = largest
    socket.tcp_keepalive = 1
    socket.tcp_keepalive_idle = 10
    socket.tcp_keepalive_intvl = 5
    socket.tcp_keepalive_cnt = 3
    return socket


def bind(socket: zmq.Socket[bytes], endpoint: str) -> str:
    """Bind to `tcp://address:port` (port 0 or `*`: any free one) and return the endpoint with its real port.

    Raises ValueError for another kind of endpoint, OSError where it cannot be had; the socket is closed then.
    """
    try:
        if not endpoint.startswith("tcp://"):
            raise ValueError(f"endpoint: expected tcp://address:port, got {endpoint!r}")
        socket.bind(endpoint)
    except ValueError:
        socket.close()
        raise
    except zmq.ZMQError as error:
        socket.close()
        raise OSError(error.errno, f"endpoint: expected a free one, cannot bind {endpoint}: {error.strerror}") from None
    return socket.get_string(zmq.LAST_ENDPOINT)
