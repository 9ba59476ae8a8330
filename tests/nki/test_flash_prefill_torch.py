# SPDX-License-Identifier: Apache-2.0
"""The torch twin of the prefill kernel against the formula in fp64."""

import pytest
import torch
from attention_reference import PrefillCase, allowed, assert_as_near_as_torch, error, exact_prefill, torch_bf16_prefill
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from optimum_gemma4.nki.flash_prefill_torch import flash_prefill


CASES = [
    PrefillCase(queries=1),
    PrefillCase(queries=127, window=128),
    PrefillCase(queries=128, heads=2),
    PrefillCase(queries=129, window=128, heads=8, kv_heads=2, head_dim=256),
    PrefillCase(queries=1023, window=1024),
    PrefillCase(queries=1025, window=128, heads=2),
    PrefillCase(queries=1300, window=1024, head_dim=256, heads=4, kv_heads=2),
    PrefillCase(queries=300, head_dim=512, heads=8),
    PrefillCase(queries=700, window=128, images=((5, 100), (101, 380)), heads=2),
    PrefillCase(queries=300, window=0, images=((0, 299),)),
    PrefillCase(queries=200, offset=1000, window=128, extra_keys=40),
    PrefillCase(queries=200, offset=333, extra_keys=1),
    PrefillCase(queries=256, padding=100, batch=2, window=128),
    PrefillCase(queries=600, padding=599, batch=2),
    PrefillCase(queries=200, magnitude=1e4, window=128),
    PrefillCase(queries=200, scale=0.0625, magnitude=16),
    PrefillCase(queries=600, window=128, magnitude=0.25, head_dim=256),
]


def run(case: PrefillCase, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    end = case.end() if case.needs_end() else None
    return flash_prefill(q, k, v, end, case.window, case.scale, case.offset, case.max_lookahead)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_formula(case):
    q, k, v = (tensor.double() for tensor in case.inputs())
    torch.testing.assert_close(run(case, q, k, v), exact_prefill(case, q, k, v), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bf16_is_as_near_as_torch(case):
    q, k, v = case.inputs()
    assert_as_near_as_torch(run(case, q, k, v), exact_prefill(case, q, k, v), torch_bf16_prefill(case, q, k, v))


def test_padding_rows_are_zero():
    case = PrefillCase(queries=300, padding=50, window=128)
    output = run(case, *case.inputs())
    assert (output[0, :, 250:] == 0).all() and (output[0, :, :250] != 0).all()


@pytest.mark.parametrize(("change", "field"), [(1, "window"), (-1, "window"), (1, "offset"), (1, "padding")])
def test_one_position_makes_a_difference(change, field):
    """The comparison above sees a mask that is off by one."""
    case = PrefillCase(queries=300, window=128, offset=64, extra_keys=8, padding=8)
    wrong = PrefillCase(**{**case.__dict__, field: getattr(case, field) + change})
    q, k, v = (tensor.double() for tensor in case.inputs())
    assert error(run(wrong, q, k, v), exact_prefill(case, q, k, v)) > 1e-3


def test_work_grows_with_the_window_not_the_length():
    def products(queries: int) -> int:
        case = PrefillCase(queries=queries, window=128)
        q, k, v = (tensor.to("meta") for tensor in case.inputs())
        counter = FlopCounterMode(display=False)
        with counter:
            run(case, q, k, v)
        return counter.get_total_flops()

    assert products(4096) == pytest.approx(2 * products(2048), rel=0.1)


def test_vmap_equals_a_loop_over_ranks():
    case = PrefillCase(queries=200, window=128, heads=4, kv_heads=2)
    inputs = [case.inputs(seed) for seed in range(3)]
    q, k, v = (torch.stack(tensors) for tensors in zip(*inputs))
    output = torch.vmap(lambda q, k, v: run(case, q, k, v))(q, k, v)
    for rank, tensors in enumerate(inputs):
        torch.testing.assert_close(output[rank], run(case, *tensors), atol=0.02, rtol=0.02)


def test_traces_without_a_branch_on_values():
    case = PrefillCase(queries=200, window=128, images=((3, 90),), padding=9)
    q, k, v = case.inputs()
    graph = make_fx(lambda q, k, v, end: flash_prefill(q, k, v, end, 128, 1.0, 0, 87), tracing_mode="fake")(
        q, k, v, case.end()
    )
    torch.testing.assert_close(graph(q, k, v, case.end()), run(case, q, k, v))


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((1, 2, 128, 8), (1, 2, 8, 128), (1, 2, 8, 128)), {}, r"\[B, K, H, T\]"),
        (((1, 2, 128, 8), (1, 2, 128, 8), (1, 2, 128, 8)), {}, r"V is \[B, K, T, H\]"),
        (((1, 3, 128, 8), (1, 2, 128, 8), (1, 2, 8, 128)), {}, "3 query heads"),
        (((1, 2, 128, 8), (1, 2, 128, 8), (1, 2, 8, 128)), {"offset": 1}, "at least 9"),
        (((1, 2, 128, 8), (1, 2, 128, 8), (1, 2, 8, 128)), {"window": -1}, "window=-1"),
    ],
)
def test_refuses_shapes_that_do_not_fit(shapes, options, message):
    with pytest.raises(ValueError, match=message):
        flash_prefill(*(torch.zeros(shape) for shape in shapes), **options)


def test_the_reference_masks_as_the_rule_says():
    """i - window < j <= end(i), written out."""
    case = PrefillCase(queries=6, window=3, offset=2, images=((4, 6),))
    seen = [[j for j in range(8) if allowed(case)[0, i, j]] for i in range(6)]
    assert seen == [[0, 1, 2], [1, 2, 3], [2, 3, 4, 5, 6], [3, 4, 5, 6], [4, 5, 6], [5, 6, 7]]
