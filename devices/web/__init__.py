"""A page for phones and walls: slices, curves and states in a browser, read only unless it was begun otherwise."""
