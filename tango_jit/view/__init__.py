"""How slices are looked at and placed: numbers and pictures for every kind of viewer, without a screen."""

from tango_jit.view.camera import Camera
from tango_jit.view.placing import Placement
from tango_jit.view.scene import Haze, Hit, Plane, hit, reduced, render, textured, whole

__all__ = ["Camera", "Haze", "Hit", "Placement", "Plane", "hit", "reduced", "render", "textured", "whole"]
