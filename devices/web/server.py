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

from devices.watch.command import is_loopback
from devices.watch.pictures import GROUPS
from devices.web.wall import Wall

WALL = web.AppKey("wall", Wall)
KEY = web.AppKey("key", str)  # "": nothing may be ordered
HERE = web.AppKey("here", bool)  # only this computer is to be answered
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
MOST_WAITING = 24  # pictures
ENDING_S = 1.0
COMPRESSED = {"Content-Encoding": "gzip"}


class Drawer:
    """Draws one picture after the other in a thread; what is too much is refused, and asked for again."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting = 0

    async def draw(self, picture: Callable[[], bytes | None]) -> bytes | None:
        if self._waiting >= MOST_WAITING:
            raise web.HTTPServiceUnavailable(text="too many pictures are being asked for: try again")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, picture)
        finally:
            self._waiting -= 1

    def end(self) -> None:
        """What has not begun is not drawn."""
        self._thread.shutdown(wait=False, cancel_futures=True)


FLAT = web.AppKey("flat", Drawer)
SPACE = web.AppKey("space", Drawer)


def application(wall: Wall, key: str, *, here: bool) -> web.Application:
    """The page of a wall. `key` is asked for with each order; "": none is taken.

    `here`: who asks for it has to know it by a name of this computer for itself.
    """
    app = web.Application(middlewares=[_with_headers], client_max_size=10_000)
    app[WALL], app[KEY], app[HERE] = wall, key, here
    app[FLAT], app[SPACE] = Drawer("flat"), Drawer("space")  # the view in space holds up no slice
    app.on_cleanup.append(_end_drawing)
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
    # A browser that has gone takes its pictures with it: what nobody waits for is not drawn.
    app = application(wall, key, here=is_loopback(address))
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=ENDING_S)
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
        _refuse_strangers(request)
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


def _refuse_strangers(request: web.Request) -> None:
    """A page elsewhere may have its own name lead to this computer, and read here (DNS rebinding)."""
    name = request.url.host or ""
    if request.app[HERE] and not is_loopback(name):
        raise web.HTTPMisdirectedRequest(text=f"host: expected localhost or 127.0.0.1, got {name}")


async def _static(request: web.Request) -> web.Response:
    name, kind = STATIC[request.path.lstrip("/")]
    text = (files("devices.web") / "static" / name).read_text("utf-8")
    return web.Response(text=text, content_type=kind)


@cache
def _plotly_source(compressed: bool) -> bytes:
    source = get_plotlyjs().encode()
    return gzip.compress(source, 6) if compressed else source


def _takes_gzip(request: web.Request) -> bool:
    return "gzip" in request.headers.get("Accept-Encoding", "")


async def _plotly(request: web.Request) -> web.Response:
    """The plotting library as it is installed here: a beamline need not reach the internet."""
    compressed = _takes_gzip(request)
    body = await asyncio.to_thread(_plotly_source, compressed)
    headers = {"Cache-Control": "max-age=86400", "Vary": "Accept-Encoding"}
    return web.Response(body=body, content_type="text/javascript", headers=headers | (COMPRESSED if compressed else {}))


async def _state(request: web.Request) -> web.Response:
    since, compressed = _number(request, "since", 0.0), _takes_gzip(request)
    orders = bool(request.app[KEY])
    body = await asyncio.to_thread(_state_now, request.app[WALL], since, orders, compressed)
    return web.Response(body=body, content_type="application/json", headers=COMPRESSED if compressed else None)


def _state_now(wall: Wall, since_s: float, orders: bool, compressed: bool) -> bytes:
    text = msgspec.json.encode(wall.state(since_s) | {"orders": orders})  # NaN is null there
    return gzip.compress(text, 1) if compressed else text


async def _picture(request: web.Request) -> web.Response:
    name, kind = request.match_info["name"], request.match_info["kind"]
    if kind not in GROUPS:
        raise web.HTTPNotFound(text=f"picture: expected one of {', '.join(GROUPS)}, got {kind}")
    longest = _side(request, "longest", 1024)
    body = await request.app[FLAT].draw(lambda: request.app[WALL].picture(name, kind, longest))
    if body is None:
        raise web.HTTPNotFound(text=f"slice {name}: there is no picture {kind} yet")
    return web.Response(body=body, content_type="image/png")


async def _space(request: web.Request) -> web.Response:
    size = _side(request, "width", 600), _side(request, "height", 520)
    azimuth, elevation = (_number(request, name, 0.0) for name in ("azimuth", "elevation"))
    nearer = _number(request, "nearer", 1.0)
    if not 0.05 <= nearer <= 50:
        raise ValueError(f"nearer: expected 0.05 to 50, got {nearer}")
    body = await request.app[SPACE].draw(lambda: request.app[WALL].space(azimuth, elevation, nearer, size))
    if body is None:
        raise web.HTTPNotFound(text="there are no slices yet")
    return web.Response(body=body, content_type="image/png")


async def _end_drawing(app: web.Application) -> None:
    for drawer in (app[FLAT], app[SPACE]):
        drawer.end()


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
