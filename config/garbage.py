"""What a process that runs for days has loaded stays loaded: the garbage collector need not look at it over and over.

Requests make so many objects that a busy web process spent a third of its time on that.
"""

import gc

# How many new objects it takes, less those that are gone again, to have them looked through for circles.
YOUNG_OBJECTS = 10_000


def spare_what_is_loaded() -> None:
    """Exempt all that there is from being looked at. Call once, when the process is ready and before it works."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
