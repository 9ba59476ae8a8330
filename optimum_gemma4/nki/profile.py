# SPDX-License-Identifier: Apache-2.0
"""Profile one of this package's kernels on the NKI simulator: a table for each core, and a picture of the engines.

    python -m optimum_gemma4.nki.profile flash_prefill --d 256 --seq 4096 --heads 8 --kv-heads 4 --window 1024 \
        --picture prefill.svg
    python -m optimum_gemma4.nki.profile decode_attention --d 512 --seq 4096 --heads 8 --kv-heads 1 --rotated 128

Prefill defaults to the 31B's share of a rank at tp 4. All figures are simulated.
"""

import importlib
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch

from optimum_gemma4.simulator.nki_report import core_grid, draw_timeline, nki_profile

from .command_line import not_negative, positive, problem_parser, run_command
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


def _parser() -> ArgumentParser:
    parser = problem_parser("optimum_gemma4.nki.profile", __doc__.splitlines()[0])
    parser.add_argument("kernel", choices=sorted(KERNELS))
    parser.add_argument("--keys", type=positive, help="keys of a prefill that continues a prompt (default: seq)")
    parser.add_argument("--batch", type=positive, default=1)
    parser.add_argument(
        "--rotated", type=not_negative, default=0, help="rotated dims of a K = V cache; 0: plain cache"
    )
    parser.add_argument("--picture", help="file for the timeline of the busiest core, .svg or .png")
    parser.add_argument("--fast", action="store_true", help="picture with NeuronCore-v3's Vector performance modes")
    return parser


def _check_picture(name: str) -> None:
    """Before the kernel runs, which takes a while."""
    if not name.endswith((".svg", ".png")):
        raise ValueError(f"--picture {name}: the name must end in .svg or .png")
    if not Path(name).parent.is_dir():
        raise ValueError(f"--picture {name}: there is no folder {Path(name).parent}")


def main(arguments=None) -> int:
    """Print the table and write the picture; see `run_command` for the exit status."""
    parser = _parser()
    return run_command(parser, parser.parse_args(arguments), _profile)


def _profile(options: Namespace) -> int:
    if options.picture:
        _check_picture(options.picture)
    if options.kernel == "flash_prefill" and options.rotated:
        raise ValueError("--rotated is of decode_attention: prefill attends to whole keys")
    if options.kernel == "decode_attention" and options.keys:
        raise ValueError("--keys is of flash_prefill: a decode's cache has --seq slots")
    if options.keys and options.keys < options.seq:
        raise ValueError(f"--keys {options.keys}: the keys of a prompt include those of its last --seq {options.seq}")
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
