"""The page over HTTP. GET only looks; POST gives orders, where the server was begun with a key."""

from __future__ import annotations

import asyncio
import gzip
import hmac
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
from aiohttp import web
from plotly.offline import get_plotlyjs

from devices.web.drawing import GROUPS
from devices.web.wall import Wall

WALL = web.AppKey("wall", Wall)
KEY = web.AppKey("key", str)  # "": nothing may be ordered
DRAWERS = web.AppKey("drawers", ThreadPoolExecutor)
STATIC = {
    "": ("page.html", "text/html"),
    "page.js": ("page.js", "text/javascript"),
    "page.css": ("page.css", "text/css"),
}
HEADERS = {
    # Plotly writes styles of its own; everything else comes from here, and nobody may frame the buttons.
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
SIDES = (16, 4096)  # of pictures, in pixels


def application(wall: Wall, key: str) -> web.Application:
    """The page of a wall. `key` is asked for with each order; "": none is taken."""
    app = web.Application(middlewares=[_with_headers], client_max_size=10_000)
    app[WALL], app[KEY] = wall, key
    app[DRAWERS] = ThreadPoolExecutor(1, thread_name_prefix="drawing")  # one core is enough for all who look
    for path in STATIC:
        app.router.add_get(f"/{path}", _static)
    app.router.add_get("/plotly.js", _plotly)
    app.router.add_get("/state", _state)
    app.router.add_get("/space.png", _space)
    app.router.add_get("/slices/{name}/{kind}.png", _picture)
    app.router.add_post("/orders", _order)
    return app


async def serve(wall: Wall, address: str, port: int, key: str, told: Callable[[int], None], end: asyncio.Event) -> None:
    """Serve until `end`; `told` gets the port, which is another where `port` is 0. Raises OSError for one in use."""
    runner = web.AppRunner(application(wall, key), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address, port)
        await site.start()
        told(runner.addresses[0][1])
        await end.wait()
    finally:
        await runner.cleanup()


@web.middleware
async def _with_headers(request: web.Request, handler: Any) -> web.StreamResponse:
    """Headers for every answer; what is wrong with a request is said in words."""
    try:
        response = await handler(request)
    except web.HTTPException as refused:
        response = refused
    except ValueError as error:
        response = web.HTTPBadRequest(text=str(error))
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    if isinstance(response, web.HTTPException):
        raise response
    return response


async def _static(request: web.Request) -> web.Response:
    name, kind = STATIC[request.path.lstrip("/")]
    text = (files("devices.web") / "static" / name).read_text("utf-8")
    return web.Response(text=text, content_type=kind)


@cache
def _compressed_plotly() -> bytes:
    return gzip.compress(get_plotlyjs().encode(), 6)


async def _plotly(request: web.Request) -> web.Response:
    """The plotting library as it is installed here: a beamline need not reach the internet."""
    body = await asyncio.get_running_loop().run_in_executor(request.app[DRAWERS], _compressed_plotly)
    headers = {"Content-Encoding": "gzip", "Cache-Control": "max-age=86400"}
    return web.Response(body=body, content_type="text/javascript", headers=headers)


async def _state(request: web.Request) -> web.Response:
    state = request.app[WALL].state(_number(request, "since", 0.0)) | {"orders": bool(request.app[KEY])}
    response = web.Response(body=msgspec.json.encode(state), content_type="application/json")  # NaN is null there
    response.enable_compression()
    return response


async def _picture(request: web.Request) -> web.Response:
    name, kind = request.match_info["name"], request.match_info["kind"]
    if kind not in GROUPS:
        raise web.HTTPNotFound(text=f"picture: expected one of {', '.join(GROUPS)}, got {kind}")
    longest = _side(request, "longest", 1024)
    body = await _drawn(request, lambda: request.app[WALL].picture(name, kind, longest))
    if body is None:
        raise web.HTTPNotFound(text=f"slice {name}: there is no picture {kind} yet")
    return web.Response(body=body, content_type="image/png")


async def _space(request: web.Request) -> web.Response:
    size = _side(request, "width", 600), _side(request, "height", 520)
    azimuth, elevation = (_number(request, name, 0.0) for name in ("azimuth", "elevation"))
    nearer = _number(request, "nearer", 1.0)
    if not 0.05 <= nearer <= 50:
        raise ValueError(f"nearer: expected 0.05 to 50, got {nearer}")
    body = await _drawn(request, lambda: request.app[WALL].space(azimuth, elevation, nearer, size))
    if body is None:
        raise web.HTTPNotFound(text="there are no slices yet")
    return web.Response(body=body, content_type="image/png")


async def _drawn(request: web.Request, draw: Callable[[], bytes | None]) -> bytes | None:
    return await asyncio.get_running_loop().run_in_executor(request.app[DRAWERS], draw)


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """What may be posted: one of wall.ORDERS, or a slice and the pixels that it is to go along its normal."""

    order: str = ""
    slice: str = ""
    pixels: float = 0.0


async def _order(request: web.Request) -> web.Response:
    key = request.app[KEY]
    if not key:
        raise web.HTTPForbidden(text="this page only shows: `tango-jit web --operate` takes orders")
    if not hmac.compare_digest(request.headers.get("X-Key", "").encode(), key.encode()):  # no other page can send it
        raise web.HTTPForbidden(text="key: expected that of the address that `tango-jit web --operate` has printed")
    try:
        order = msgspec.json.decode(await request.read(), type=Order)
    except msgspec.DecodeError as error:
        raise ValueError(f"order: {error}") from error
    if order.order:
        request.app[WALL].order(order.order)
    else:
        if not math.isfinite(order.pixels) or abs(order.pixels) > 10_000:
            raise ValueError(f"pixels: expected -10000 to 10000, got {order.pixels}")
        request.app[WALL].move(order.slice, order.pixels)
    return web.Response(status=202, text="given")


def _number(request: web.Request, name: str, default: float) -> float:
    text = request.query.get(name, "")
    try:
        number = float(text) if text else default
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a number, got {text}")
    return number


def _side(request: web.Request, name: str, default: int) -> int:
    number = _number(request, name, default)
    if not SIDES[0] <= number <= SIDES[1]:
        raise ValueError(f"{name}: expected {SIDES[0]} to {SIDES[1]} pixels, got {number:g}")
    return int(number)
