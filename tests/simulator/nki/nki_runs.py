# SPDX-License-Identifier: Apache-2.0
"""Running a kernel's body in the NKI simulator, for its values or for its costs, and operands for it."""

import neuronxcc.nki as nki
import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
import numpy as np
from neuronxcc.nki._frontend.launch import simulate

from optimum_gemma4.simulator.nki_report import nki_profile


def run(body, *arrays, target="trn2", grid=None):
    """Runs a body that stores into a preallocated output, its last argument, and returns that."""
    kernel = nki.trace(body)
    with simulate(target=target):
        (kernel[grid] if grid else kernel)(*arrays)
    return arrays[-1]


def profile(body, *arrays, target="trn2", grid=None):
    """Core report of a body that stores into its last argument."""
    arrays = arrays or (np.zeros((128, 512), np.float32), np.zeros((128, 512), np.float32))
    kernel = nki.trace(body)
    with nki_profile(target) as report:
        (kernel[grid] if grid else kernel)(*arrays)
    return report


def sbuf(shape, dtype=nl.float32, value=1.0):
    """A filled tile."""
    return nl.full(shape, value, dtype=dtype, buffer=nl.sbuf)


def psum(columns=128):
    """The result of a matmul [128, columns]."""
    return nisa.nc_matmul(sbuf((128, 128), nl.bfloat16), sbuf((128, columns), nl.bfloat16))
