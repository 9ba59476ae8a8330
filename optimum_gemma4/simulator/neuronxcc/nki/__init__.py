# SPDX-License-Identifier: Apache-2.0
"""`neuronxcc.nki` (Beta 1, SDK 2.26): kernels that run on a simulated NeuronCore, unmodified.

All compilation modes of `nki.jit` simulate. See README.md for what is enforced, what is counted and what is not
modelled; cost reports are made by `optimum_gemma4.simulator.nki_report`.
"""

from . import compiler, isa, language, typing
from ._frontend.launch import GridKernel, Kernel


def jit(func=None, mode="auto", **kwargs):
    """Make a kernel of a function.

    Args:
        func: The function; without it a decorator is returned.
        mode: Any of the SDK's modes ("jax", "torchxla", "baremetal", "benchmark", "simulation", "auto", "trace").
        kwargs: `platform_target` ("trn1", "trn2"); compiler options are ignored.

    Raises:
        ValueError: If the mode does not exist.
    """
    modes = ("auto", "jax", "torchxla", "baremetal", "benchmark", "simulation", "trace", "profile")
    if mode not in modes:
        raise ValueError(f"nki.jit: mode {mode!r} is unknown; expected one of {modes}")

    def decorate(function):
        return Kernel(function, kwargs.get("platform_target"))

    return decorate if func is None else decorate(func)


def trace(func=None, **kwargs):
    """Mark a function that is called from kernels, or simulated with preallocated outputs as arguments."""
    if func is None:
        return lambda function: trace(function, **kwargs)
    return Kernel(func, kwargs.get("platform_target"), outputs_are_arguments=True)


def baremetal(kernel=None, **kwargs):
    """Run a kernel on numpy arrays."""
    return jit(kernel, mode="baremetal", **kwargs)


def benchmark(kernel=None, **kwargs):
    """Run a kernel on numpy arrays; nothing is timed."""
    return jit(kernel, mode="benchmark", **kwargs)


def profile(func=None, **kwargs):
    """Run a kernel on numpy arrays; costs are reported by `optimum_gemma4.simulator.nki_report`."""
    return jit(func, mode="profile", **kwargs)


def simulate_kernel(kernel, *args, **kwargs):
    """Run a kernel, or a kernel with a grid, on numpy arrays."""
    if not isinstance(kernel, (Kernel, GridKernel)):
        kernel = trace(kernel)
    return kernel(*args, **kwargs)


__all__ = [
    "baremetal",
    "benchmark",
    "compiler",
    "isa",
    "jit",
    "language",
    "profile",
    "simulate_kernel",
    "trace",
    "typing",
]
