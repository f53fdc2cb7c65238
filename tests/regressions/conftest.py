"""The benches of the services: what was broken once is looked at over real sockets, too."""

from tests.services.conftest import _one_thread, bench, clock, compiled, feed, make_trainer

__all__ = ["_one_thread", "bench", "clock", "compiled", "feed", "make_trainer"]  # fixtures; pytest finds them here
