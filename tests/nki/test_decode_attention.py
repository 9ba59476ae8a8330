# SPDX-License-Identifier: Apache-2.0
"""Decode attention, twin and kernel, in both forms of the cache, against the formula in fp64."""

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from attention_reference import assert_as_near_as_torch, attention_forms, error
from torch.fx.experimental.proxy_tensor import make_fx

from optimum_gemma4.nki import decode_attention_torch
from optimum_gemma4.nki.decode_attention import decode_attention
from optimum_gemma4.nki.decode_attention_torch import merge_parts
from optimum_gemma4.simulator.nki_report import core_grid, nki_profile


@dataclass(frozen=True)
class DecodeCase:
    """One decode problem; `rotated` > 0 is the K = V form. Slots hold random ages, some of them empty."""

    head_dim: int = 256
    heads: int = 2
    kv_heads: int = 1
    slots: int = 256
    rotated: int = 0
    window: int = 0
    batch: int = 1
    scale: float = 1.0
    magnitude: float = 1.0
    empty_rows: int = 0

    def __str__(self) -> str:
        shape = f"d{self.head_dim}-n{self.heads}k{self.kv_heads}-t{self.slots}-b{self.batch}"
        return shape + (f"-r{self.rotated}" if self.rotated else "") + (f"-w{self.window}" if self.window else "")

    def inputs(self, seed: int = 0) -> dict[str, torch.Tensor]:
        """Arguments by name, tensors in bf16."""
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator)

        q = draw(self.batch, self.heads, self.head_dim) * self.magnitude * 2 / self.head_dim**0.5
        v = draw(self.batch, self.kv_heads, self.slots, self.head_dim)
        k = draw(self.batch, self.kv_heads, self.slots, self.rotated or self.head_dim)
        age = torch.stack([torch.randperm(self.slots, generator=generator) for _ in range(self.batch)]).int()
        age = torch.where(age >= self.slots - self.slots // 10, -1, age)
        age[: self.empty_rows] = -1
        inputs = {"q": q, "k": k, "v": v}
        if self.rotated:
            q_rot = draw(self.batch, self.heads, self.rotated) * self.magnitude * 2 / self.head_dim**0.5
            half, part = self.head_dim // 2, self.rotated // 2
            q[..., :part] = 0
            q[..., half : half + part] = 0
            inputs["q_rot"] = q_rot
        return {name: tensor.bfloat16() for name, tensor in inputs.items()} | {"age": age}

    def options(self) -> dict[str, float]:
        """Static arguments by name."""
        return {"window": self.window, "scale": self.scale}


def whole_keys(case: DecodeCase, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Query and key of the plain form: in the K = V form a key is V with the rotated dims put over it."""
    q, k = inputs["q"].clone(), inputs["k"]
    if not case.rotated:
        return q, k
    half, part, k = case.head_dim // 2, case.rotated // 2, inputs["v"].clone()
    for place, source in ((slice(0, part), slice(0, part)), (slice(half, half + part), slice(part, None))):
        k[..., place], q[..., place] = inputs["k"][..., source], inputs["q_rot"][..., source]
    return q, k


def reference(case: DecodeCase, inputs: dict[str, torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """Attention over the slots that count, as torch computes it in `dtype`."""
    group = case.heads // case.kv_heads
    q, k = (tensor.to(dtype) for tensor in whole_keys(case, inputs))
    k, v = k.repeat_interleave(group, 1), inputs["v"].to(dtype).repeat_interleave(group, 1)
    seen = seen_slots(case, inputs)
    scores = (q[:, :, None] @ k.mT * case.scale).masked_fill(~seen[:, None, None], torch.finfo(dtype).min)
    weights = scores.softmax(-1, dtype=torch.promote_types(dtype, torch.float32)).to(dtype)
    return torch.where(seen.any(-1)[:, None, None], (weights @ v)[:, :, 0], 0)


def torch_bf16_decode(case: DecodeCase, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The forms of torch's attention in bf16 over the whole keys."""
    group = case.heads // case.kv_heads
    q, k = whole_keys(case, inputs)
    k, v = k.repeat_interleave(group, 1), inputs["v"].repeat_interleave(group, 1)
    forms = attention_forms(q[:, :, None], k, v, seen_slots(case, inputs)[:, None, None], case.scale)
    return [form[:, :, 0] for form in forms]


def seen_slots(case: DecodeCase, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """[B, T] bool: which slots count."""
    return (inputs["age"] >= 0) & ((inputs["age"] < case.window) if case.window else True)


def run(case: DecodeCase, inputs: dict[str, torch.Tensor], target: str = "trn2", lnc: int = 1, key_parts: int = 1):
    kernel = decode_attention[core_grid(lnc)] if lnc > 1 else decode_attention
    with nki_profile(target):
        output = kernel(**inputs, **case.options(), key_parts=key_parts)
    return output if key_parts == 1 else merge_parts(output, torch.bfloat16)


def check(case: DecodeCase, output: torch.Tensor, inputs: dict[str, torch.Tensor]) -> None:
    exact = reference(case, inputs, torch.float64)
    assert_as_near_as_torch(output, exact, torch_bf16_decode(case, inputs))
    twin = decode_attention_torch.decode_attention(**inputs, **case.options())
    # Sections round their weights relative to their own peak: the two agree as well as either does with the formula.
    assert error(output, twin.double()) <= 1.25 * error(exact.bfloat16(), exact)
    assert (output[: case.empty_rows] == 0).all()


CASES = [
    DecodeCase(slots=1024, heads=8, kv_heads=4, window=1024),
    DecodeCase(512, 8, 1, 2048, rotated=128),
    DecodeCase(512, 4, 1, 1500, rotated=128, batch=2),
    DecodeCase(512, 2, 1, 1024),
    DecodeCase(128, 1, 1, 100, batch=3),
    DecodeCase(128, 8, 1, 129, window=40),
    DecodeCase(256, 2, 2, 127, rotated=64, batch=2),
    DecodeCase(256, 2, 1, 128, rotated=128),
    DecodeCase(slots=1, heads=1),
    DecodeCase(slots=1152, batch=2, empty_rows=1, window=300),
    DecodeCase(slots=300, batch=16),
    DecodeCase(slots=1100, magnitude=1e4, scale=4.0),
    DecodeCase(512, 8, 1, 300, rotated=128, scale=0.125, magnitude=8),
    DecodeCase(512, 32, 4, 600, rotated=128, window=500),
    DecodeCase(256, 32, 16, 384, window=300),
    DecodeCase(128, 64, 4, 200, magnitude=0.25),
    DecodeCase(256, 4, 2, 2600, magnitude=0.25),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_twin_equals_the_formula(case):
    inputs = {name: t.double() if t.is_floating_point() else t for name, t in case.inputs().items()}
    output = decode_attention_torch.decode_attention(**inputs, **case.options())
    torch.testing.assert_close(output, reference(case, inputs, torch.float64), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernel_is_as_near_as_torch(case):
    inputs = case.inputs()
    check(case, run(case, inputs), inputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [DecodeCase(512, 8, 1, 32768, rotated=128), DecodeCase(512, 2, 1, 32700, batch=2), DecodeCase(slots=33000)],
    ids=str,
)
def test_32768_slots(case):
    inputs = case.inputs()
    check(case, run(case, inputs), inputs)


@pytest.mark.parametrize("case", [CASES[2], CASES[6], CASES[9]], ids=str)
def test_neuroncore_v2(case):
    inputs = case.inputs()
    check(case, run(case, inputs, "trn1"), inputs)


@pytest.mark.parametrize(
    ("case", "key_parts"),
    [
        (DecodeCase(slots=200, heads=4, kv_heads=2), 1),
        (DecodeCase(slots=200, heads=2, kv_heads=1, batch=4), 1),
        (DecodeCase(512, 8, 1, 2304, rotated=128), 2),
        (DecodeCase(slots=256, batch=2, empty_rows=1, window=100), 2),
    ],
    ids=["key heads", "sequences", "slots", "slots, some parts empty"],
)
def test_two_cores_share(case, key_parts):
    inputs = case.inputs()
    check(case, run(case, inputs, lnc=2, key_parts=key_parts), inputs)


@pytest.mark.parametrize("magnitude", [1e6, 3e7, 1e9, 1e12])
def test_no_logit_overflows_the_weights(magnitude):
    case = DecodeCase(slots=1300, magnitude=magnitude)
    output = run(case, case.inputs())
    assert torch.isfinite(output).all() and output.abs().amax() < 6


def test_parts_of_the_twin_join_to_the_whole():
    case = DecodeCase(slots=512, batch=2, empty_rows=1)
    inputs = {name: t.double() if t.is_floating_point() else t for name, t in case.inputs().items()}
    parts = decode_attention_torch.decode_attention(**inputs, key_parts=4)
    assert parts.shape == (4, 2, 2, 258)
    whole = decode_attention_torch.decode_attention(**inputs)
    torch.testing.assert_close(merge_parts(parts, torch.float64), whole, atol=1e-12, rtol=1e-9)


BROKEN = {
    "window one too wide": lambda case, inputs: (dataclasses.replace(case, window=51), inputs),
    "window one too narrow": lambda case, inputs: (dataclasses.replace(case, window=49), inputs),
    "empty slots counted": lambda case, inputs: (case, inputs | {"age": inputs["age"].clamp(min=0)}),
    "rotated dims twice": lambda case, inputs: (case, inputs | {"q_rot": 2 * inputs["q_rot"]}),
    "halves of the rotated dims swapped": lambda case, inputs: (
        case,
        inputs | {"k": inputs["k"].roll(64, -1)},
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_bounds_see_a_wrong_call(name):
    case = DecodeCase(512, 4, 1, 200, rotated=128, window=50)
    inputs = case.inputs()
    wrong_case, wrong_inputs = BROKEN[name](case, inputs)
    with pytest.raises(AssertionError):
        check(case, run(wrong_case, wrong_inputs), inputs)


def test_twin_vmaps_and_traces():
    case = DecodeCase(512, 4, 2, 64, rotated=128)
    names = list(case.inputs())
    stacked = [torch.stack([case.inputs(seed)[name] for seed in range(3)]) for name in names]

    def attend(*tensors):
        return decode_attention_torch.decode_attention(**dict(zip(names, tensors)))

    mapped = torch.vmap(attend)(*stacked)
    for rank in range(3):
        torch.testing.assert_close(mapped[rank], attend(*(t[rank] for t in stacked)), atol=0.02, rtol=0.02)
    one = [tensor[0] for tensor in stacked]
    torch.testing.assert_close(make_fx(attend, tracing_mode="fake")(*one)(*one), attend(*one))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(1, 1, 256, 64)}, "plain form all of them"),
        ({"age": torch.zeros(1, 255, dtype=torch.int32)}, "age has shape"),
        ({"v": torch.zeros(1, 1, 256, 128)}, "v has shape"),
        ({"q_rot": torch.zeros(1, 2, 63), "k": torch.zeros(1, 1, 256, 63)}, "even R"),
        ({"key_parts": 3}, "256 slots in 3 parts"),
        ({"q": torch.zeros(1, 3, 256), "v": torch.zeros(1, 2, 256, 256), "k": torch.zeros(1, 2, 256, 256)}, "3 query"),
    ],
)
def test_refuses_shapes_that_do_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        decode_attention_torch.decode_attention(**(DecodeCase().inputs() | change))


def test_refuses_cores_that_cannot_share():
    case = DecodeCase(slots=200)
    with pytest.raises(ValueError, match="key_parts=2"):
        run(case, case.inputs(), lnc=2)


def test_refuses_rotated_dims_that_do_not_fit():
    case = DecodeCase(512, 2, 1, 128, rotated=64)
    with pytest.raises(ValueError, match="5 contraction steps"):
        run(case, case.inputs())
