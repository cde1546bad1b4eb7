"""Arrays in memory pages of their own, which return to the system when the array is freed.

Samples of finished sentences live on between buffers that are allocated and freed. On the heap
they would keep it from shrinking. docs/measurements.md, "Long text", has the measured memory.
"""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt


def copy_to_own_pages(samples: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """A float32 copy of samples (N,) outside the heap."""
    pages = mmap.mmap(-1, max(samples.size * np.dtype(np.float32).itemsize, 1))
    copy = np.frombuffer(pages, np.float32, samples.size)
    copy[:] = samples
    return copy
