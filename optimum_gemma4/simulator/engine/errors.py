# SPDX-License-Identifier: Apache-2.0
"""Errors of tracing: what the real tracer or compiler could not take."""


class GraphError(RuntimeError):
    """The traced model does something that has no place in a compiled graph; the message names the operator."""
