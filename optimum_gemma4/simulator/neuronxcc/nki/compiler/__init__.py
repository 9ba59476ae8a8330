# SPDX-License-Identifier: Apache-2.0
"""`neuronxcc.nki.compiler`: hints to the compiler that change nothing in a simulation.

Direct allocation (`sbuf.alloc`, `psum.mod_alloc`) is accepted as the memory it names; addresses are not checked.
"""

from contextlib import contextmanager

from . import psum, sbuf


def _identity(func=None, **kwargs):
    return (lambda f: f) if func is None else func


enable_stack_allocator = _identity
force_auto_alloc = _identity
skip_middle_end_transformations = _identity


@contextmanager
def allocation_scope():
    """A scope of allocations."""
    yield


def multi_buffer(factor=2):
    """A multi-buffering hint."""
    return None


def no_reorder():
    """An ordering hint."""
    return None


__all__ = [
    "allocation_scope",
    "enable_stack_allocator",
    "force_auto_alloc",
    "multi_buffer",
    "no_reorder",
    "psum",
    "sbuf",
    "skip_middle_end_transformations",
]
