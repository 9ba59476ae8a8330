# SPDX-License-Identifier: Apache-2.0
"""What is just allowed: each limit of the refusal tables, from the other side, and by generation and lifetime."""

import neuronxcc.nki as nki
import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
import numpy as np
import pytest
from neuronxcc.nki._frontend.launch import simulate
from neuronxcc.nki._machine import errors
from nki_refusals import BF16, in_psum, sbuf


def run(body, target: str = "trn2") -> None:
    with simulate(target=target):
        nki.trace(body)(np.zeros((256, 1024), np.float32))


def widest_matmul(x):
    nl.store(x[0:128, 0:512], nisa.nc_matmul(sbuf((128, 128), BF16), sbuf((128, 512), BF16)))


def widest_transposes(x):
    nl.store(x[0:128, 0:128], nisa.nc_transpose(sbuf((128, 128)), engine=nisa.tensor_engine))
    nl.store(x[0:32, 0:32], nisa.nc_transpose(in_psum(32)[0:32, :], engine=nisa.vector_engine))


def matmul_of_two_half_types(x):
    nl.store(x[0:128, 0:64], nisa.nc_matmul(sbuf((128, 128), nl.float16), sbuf((128, 64), BF16)))


def one_psum_operand(x):
    nl.store(x[0:128, 0:64], nisa.tensor_tensor(in_psum(64), sbuf((128, 64)), op=np.add))


def gpsimd_on_sbuf(x):
    nl.store(x[0:128, 0:64], nisa.tensor_copy(sbuf((128, 64)), engine=nisa.gpsimd_engine))


def eight_banks_at_once(x):
    tiles = []
    for _ in nl.static_range(8):
        tiles.append(in_psum(64))
    for i in nl.static_range(8):
        nl.store(x[0:128, nl.ds(64 * i, 64)], tiles[i])


def many_banks_one_after_another(x):
    for i in nl.static_range(12):
        nl.store(x[0:128, nl.ds(64 * i, 64)], in_psum(64))


def many_tiles_one_after_another(x):
    for i in nl.static_range(12):
        nl.store(x[0:128, nl.ds(64 * i, 64)], sbuf((128, 40 * 1024))[:, 0:64])


def last_row_and_column(x):
    nl.store(x[128:256, 1023:1024], sbuf((128, 1)))


@pytest.mark.parametrize("target", ["trn1", "trn2"])
@pytest.mark.parametrize(
    "body",
    [
        widest_matmul,
        widest_transposes,
        matmul_of_two_half_types,
        one_psum_operand,
        gpsimd_on_sbuf,
        eight_banks_at_once,
        many_banks_one_after_another,
        many_tiles_one_after_another,
        last_row_and_column,
    ],
    ids=lambda body: body.__name__,
)
def test_allowed(body, target):
    run(body, target)


@pytest.mark.parametrize(("target", "kib"), [("trn1", 176), ("inf2", 176), ("trn2", 208)])
def test_sbuf_is_full_at_the_generations_size(target, kib):
    """SDK 2.26 nki_direct_allocation_guide.rst; SDK 2.29 trainium2_arch.rst less the same reserve."""

    half = kib * 1024 // 4 // 2

    def fits(x):
        first, second = sbuf((128, half)), sbuf((128, half))
        nl.store(x[0:128, 0:64], first[:, 0:64])
        nl.store(x[0:128, 64:128], second[:, 0:64])

    def does_not(x):
        first, second = sbuf((128, half)), sbuf((128, half + 1))
        nl.store(x[0:128, 0:64], first[:, 0:64])
        nl.store(x[0:128, 64:128], second[:, 0:64])

    run(fits, target)
    with pytest.raises(errors.CapacityError, match="live data needs"):
        run(does_not, target)
