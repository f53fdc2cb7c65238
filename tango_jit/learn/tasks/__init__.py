"""What networks can learn. Another task is a file here (see task.py) and its place in `TASKS`."""

from tango_jit.learn.tasks.denoise import Denoise
from tango_jit.learn.tasks.segment import Segment
from tango_jit.learn.tasks.task import Numbers, Task

TASKS: dict[str, Task] = {task.name: task for task in (Denoise(), Segment())}
"""By their names, as the setting and checkpoints have them."""

__all__ = ["TASKS", "Numbers", "Task"]
