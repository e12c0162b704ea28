"""The transport of production below the client: a pool of counted connections, direct or through a hospital's proxy."""

import ssl
from typing import Any

import httpcore
import httpx

from site_agent.counted_network import CountedNetwork
from site_agent.traffic import Meter

_POOL: dict[str, Any] = {"max_connections": 8, "max_keepalive_connections": 4, "keepalive_expiry": 60.0}


def counted_transport(context: ssl.SSLContext, proxy: str | None, meter: Meter) -> httpx.BaseTransport:
    """Return the transport of production: HTTP/1.1 with keep-alive, through `proxy` if there is one, counted.

    Nothing is taken from the environment.
    """
    network = CountedNetwork(meter)
    pool = httpcore.ConnectionPool(context, network_backend=network, **_POOL)
    if proxy is not None:
        given = httpx.Proxy(proxy)
        pool = httpcore.HTTPProxy(
            str(given.url), given.raw_auth, given.headers.raw, context, network_backend=network, **_POOL
        )
    transport = httpx.HTTPTransport(verify=context, trust_env=False)
    transport._pool = pool  # noqa: SLF001 (httpx hands no network on to its pool, so the pool is replaced)
    return transport
