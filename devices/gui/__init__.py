"""The operator window (extra `gui`): a client of the devices like any other; they work as well without it."""
