"""A process can hold only so many compiled programs."""

from pathlib import Path

import jax

_HELD = Path("/proc/self/maps")
_MOST = Path("/proc/sys/vm/max_map_count")


def make_room() -> None:
    """Forgets all compiled programs where they take half of what Linux allows.

    On a CPU each takes some hundred mappings of memory. Where there are no more, by
    default after 65,530, jaxlib ends the process with a segmentation fault. A forgotten
    program is compiled again when it is next called. On other systems nothing is done.
    """
    try:
        held = _HELD.read_bytes().count(b"\n")
        most = int(_MOST.read_text())
    except (OSError, ValueError):
        return
    if held > most // 2:
        jax.clear_caches()
