# SPDX-License-Identifier: Apache-2.0
"""`neuronxcc.nki.language`: tensors, loops, indices and math of kernels, simulated (signatures of SDK 2.26)."""

from .constants import *  # noqa: F403
from .constants import bfp16, fp32, tile_size  # noqa: F401
from .creation import (  # noqa: F401
    empty_like,
    full,
    ndarray,
    ones,
    par_dim,
    rand,
    shared_constant,
    shared_identity_matrix,
    zeros,
    zeros_like,
)
from .indexing import *  # noqa: F403
from .math import *  # noqa: F403
from .math import abs, all, max, min, sum  # noqa: F401
from .memory import *  # noqa: F403
