# SPDX-License-Identifier: Apache-2.0
"""How the tables of refused kernels are declared and run.

Sources: `S26 errors` is SDK 2.26 nki.errors.rst, `S26 isa` the notes of nki.isa, `S26 shared` nki.api.shared.rst,
`S26 arch` trainium_inferentia2_arch.rst, `S26 issues` nki_known_issues.rst, `S26 model` programming_model.rst.
"""

from typing import NamedTuple

import neuronxcc.nki as nki
import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
import numpy as np
import pytest
from neuronxcc.nki._frontend.launch import simulate


F32, BF16 = nl.float32, nl.bfloat16


class Refusal(NamedTuple):
    """A kernel that must not run: the error, a part of its message, and who says so."""

    error: type
    match: str
    source: str
    body: object
    target: str


def table():
    """An empty table and the decorator that adds kernels to it."""
    rules: list[Refusal] = []

    def refused(error, match, source, target="trn2"):
        def register(body):
            rules.append(Refusal(error, match, source, body, target))
            return body

        return register

    return rules, refused


def sbuf(shape, dtype=F32, value=1.0):
    """A filled SBUF tile."""
    return nl.full(shape, value, dtype=dtype, buffer=nl.sbuf)


def in_psum(columns=128):
    """A matmul's result."""
    return nisa.nc_matmul(sbuf((128, 128), BF16), sbuf((128, columns), BF16))


def check(rule: Refusal) -> None:
    """Run a kernel and expect its refusal. Parameters `immutable` and `grid` of the kernel choose how it is called."""
    assert rule.source, "every rule cites where it comes from"
    code = rule.body.__code__
    options = dict(zip(code.co_varnames[1 : code.co_argcount], rule.body.__defaults__ or ()))
    # Stores to x stand for outputs, except where the rule is about parameters.
    wrap = nki.jit if "immutable" in options else nki.trace
    kernel = wrap(rule.body)
    kernel = kernel[options["grid"]] if "grid" in options else kernel
    with simulate(target=rule.target), pytest.raises(rule.error, match=rule.match):
        kernel(np.zeros((256, 1024), np.float32))
