# SPDX-License-Identifier: Apache-2.0
"""`neuronxcc.nki.compiler.sbuf`: allocation markers for the SBUF memory."""

from ..language.constants import sbuf as _memory


def auto_alloc():
    """Let the compiler place the tensor."""
    return _memory


def alloc(func):
    """Place the tensor's tiles by a function; the simulator notes the memory alone."""
    return _memory


def mod_alloc(**kwargs):
    """Place the tensor's tiles by modulo; the simulator notes the memory alone."""
    return _memory
