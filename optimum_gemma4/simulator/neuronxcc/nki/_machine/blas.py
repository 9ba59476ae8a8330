# SPDX-License-Identifier: Apache-2.0
"""One BLAS thread while a kernel runs.

A kernel is thousands of 128x128x512 matmuls; handing each to a pool of threads costs more than it computes, and many
times more on a busy machine. OpenBLAS reads its environment variables once, at import, so its own call is used.
"""

import ctypes
import functools
from contextlib import contextmanager
from pathlib import Path

import numpy as np


@functools.cache
def _controls():
    """(get, set) of numpy's own OpenBLAS, or None if numpy was built with another library."""
    for path in sorted((Path(np.__file__).parent.parent / "numpy.libs").glob("libscipy_openblas*")):
        library = ctypes.CDLL(str(path))
        for suffix in ("64_", ""):
            get = getattr(library, f"scipy_openblas_get_num_threads{suffix}", None)
            put = getattr(library, f"scipy_openblas_set_num_threads{suffix}", None)
            if get is not None and put is not None:
                return get, put
    return None


@contextmanager
def single_thread():
    """Limit numpy's BLAS to one thread, if it is the bundled OpenBLAS."""
    controls = _controls()
    if controls is None:
        yield
        return
    get, put = controls
    before = get()
    put(1)
    try:
        yield
    finally:
        put(before)
