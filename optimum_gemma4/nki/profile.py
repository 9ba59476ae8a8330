# SPDX-License-Identifier: Apache-2.0
"""Profile one of this package's kernels on the NKI simulator: a table for each core, and a picture of the engines.

    python -m optimum_gemma4.nki.profile flash_prefill --d 256 --seq 4096 --heads 8 --kv-heads 4 --window 1024 \
        --picture prefill.svg
    python -m optimum_gemma4.nki.profile decode_attention --d 512 --seq 4096 --heads 8 --kv-heads 1 --rotated 128

Prefill defaults to the 31B's share of a rank at tp 4. All figures are simulated.
"""

import argparse
import importlib
import sys

import torch

from optimum_gemma4.simulator.nki_report import core_grid, draw_timeline, nki_profile

from .costs import cost_lines, table


def prefill_arguments(options) -> tuple[tuple, dict, dict]:
    """(positional, keyword, table headings) of a `flash_prefill` call."""
    shape = (options.batch, options.heads, options.d, options.seq)
    q = (torch.randn(shape) * options.d**-0.5).bfloat16()
    keys = options.keys or options.seq
    k = torch.randn(options.batch, options.kv_heads, options.d, keys).bfloat16()
    v = torch.randn(options.batch, options.kv_heads, keys, options.d).bfloat16()
    headings = {"K+V": ("k", "v"), "Q": ("q",), "O": ("output0",)}
    return (q, k, v), {"window": options.window, "offset": keys - options.seq}, headings


def decode_arguments(options) -> tuple[tuple, dict, dict]:
    """(positional, keyword, table headings) of a `decode_attention` call with a full cache of `seq` slots."""
    q = (torch.randn(options.batch, options.heads, options.d) * options.d**-0.5).bfloat16()
    k = torch.randn(options.batch, options.kv_heads, options.seq, options.rotated or options.d).bfloat16()
    v = torch.randn(options.batch, options.kv_heads, options.seq, options.d).bfloat16()
    age = torch.arange(options.seq, dtype=torch.int32).flip(0).repeat(options.batch, 1)
    keywords = {"window": options.window}
    if options.rotated:
        keywords["q_rot"] = torch.randn(options.batch, options.heads, options.rotated).bfloat16()
    return (q, k, v, age), keywords, {"K+V": ("k", "v"), "Q": ("q", "q_rot"), "O": ("output0", "output1")}


KERNELS = {"flash_prefill": prefill_arguments, "decode_attention": decode_arguments}


def _arguments(arguments):
    parser = argparse.ArgumentParser(prog="optimum_gemma4.nki.profile", description=__doc__.splitlines()[0])
    parser.add_argument("kernel", choices=sorted(KERNELS))
    parser.add_argument("--d", type=int, default=256, help="head dim")
    parser.add_argument("--seq", type=int, default=4096, help="queries of a prefill, slots of the cache of a decode")
    parser.add_argument("--keys", type=int, help="keys of a prefill that continues a prompt (default: seq)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--heads", type=int, default=8, help="query heads of a rank")
    parser.add_argument("--kv-heads", type=int, default=4, help="key heads of a rank")
    parser.add_argument("--rotated", type=int, default=0, help="rotated dims of a K = V layer's cache; 0: plain cache")
    parser.add_argument("--window", type=int, default=0, help="0: no window")
    parser.add_argument("--lnc", type=int, default=1, choices=(1, 2), help="cores of a logical NeuronCore")
    parser.add_argument("--target", default="trn2", choices=("trn1", "inf2", "trn2"))
    parser.add_argument("--picture", help="file for the timeline of the busiest core, .svg or .png")
    parser.add_argument("--fast", action="store_true", help="picture with NeuronCore-v3's Vector performance modes")
    return parser.parse_args(arguments)


def main(arguments=None) -> int:
    """Print the table and write the picture."""
    options = _arguments(arguments)
    torch.manual_seed(0)
    kernel = importlib.import_module(f"{__package__}.{options.kernel}").__dict__[options.kernel]
    positional, keywords, headings = KERNELS[options.kernel](options)
    grid = core_grid(options.lnc)
    with nki_profile(options.target) as report:
        (kernel[grid] if grid else kernel)(*positional, **keywords)
    columns = {f"core {core.core}": cost_lines(core, headings) for core in report.cores()}
    title = f"{options.kernel} d={options.d} seq={options.seq} (simulated)"
    sys.stdout.write(table(columns, title))
    if options.picture:
        draw_timeline(report.core, options.picture, options.target, options.fast, title)
        sys.stdout.write(f"wrote {options.picture}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
