# SPDX-License-Identifier: Apache-2.0
"""Cost reports of NKI kernels: the door from tools and tests to the profiler of the simulated `neuronxcc.nki`.

The SDK has no such call, so it is not in the `neuronxcc` namespace. Use:

    with nki_profile(target="trn2") as report:
        flash_prefill[grid](q, k, v)
    report.core.cycles("pe"), report.core.bytes_of("k", "v"), report.core.total_ns()
"""

import importlib

from .activation import backend_name


def _module(name: str):
    if backend_name() != "simulator":
        raise ValueError(
            "cost reports come from the NKI simulator, and this process uses the installed Neuron SDK; set "
            "OPTIMUM_GEMMA4_BACKEND=simulator"
        )
    return importlib.import_module(f"neuronxcc.nki.{name}")


def nki_profile(target: str = "trn2", relaxed=()):
    """Context manager that collects the cost of the kernels called inside it.

    Args:
        target: `trn1`, `inf2` or `trn2`.
        relaxed: Rules that third-party kernels may break (`traced_bool`, `gpsimd_psum`, `psum_start`,
            `activation_range`, `affine_rewrite`); every use is counted in the report.

    Returns:
        A context manager that yields an `NkiReport`.

    Raises:
        ValueError: If the process uses the real SDK.
    """
    return _module("_profile.report").profile(target, relaxed)


def core_grid(lnc: int):
    """Launch grid over the cores of a logical NeuronCore: None for one core, else `(nl.nc(lnc),)`."""
    return (_module("language").nc(lnc),) if lnc > 1 else None


def output_argument_kernel(kernel):
    """The kernel with `nki_jit`'s convention: a preallocated output is an argument that the kernel stores to.

    Args:
        kernel: An `nki.jit` kernel or a plain function.

    Returns:
        A kernel; call it with or without a grid.
    """
    return _module("_frontend.launch").Kernel(kernel, outputs_are_arguments=True)


def draw_timeline(core_report, path, target: str = "trn2", fast: bool = False, title: str = "") -> None:
    """Draw the engine timelines of a core as SVG or PNG, by the ending of the path.

    Args:
        core_report: A `CoreReport`.
        path: File to write, `.svg` or `.png`.
        target: Generation to schedule for.
        fast: Use the Vector performance modes of NeuronCore-v3.
        title: First line of the picture.
    """
    _module("_profile.draw").draw(core_report, path, target, fast, title)
