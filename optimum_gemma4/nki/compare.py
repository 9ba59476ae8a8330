# SPDX-License-Identifier: Apache-2.0
"""Compare prefill kernels on the NKI simulator: error against fp64 and simulated cost, ours and files given by path.

    python -m optimum_gemma4.nki.compare --d 256 --seq 4096 --heads 8 --kv-heads 4 --window 1024 \
        --kernel PATH/flash_attention_nki.py:flash_fwd_large_d --kernel PATH/kernel.py:flash_attn_large_d

A third-party file runs unmodified. Rules of the simulator that a convention is known to break are relaxed for that
kernel alone and counted in the table.
"""

import importlib
import importlib.util
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

from optimum_gemma4.simulator.nki_report import core_grid, nki_profile

from .attention_cases import CONVENTIONS, Convention, Problem
from .command_line import positive, problem_parser, run_command
from .costs import cost_lines, table


def load_kernel(path: str, function: str):
    """Import a function from a Python file.

    Args:
        path: The file.
        function: Its name.

    Raises:
        ValueError: If the file or the function does not exist, or the file cannot be imported.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"--kernel {path}:{function}: {path!r} is not a file")
    spec = importlib.util.spec_from_file_location(f"compared_{file.stem}", file)
    if spec is None:
        raise ValueError(f"--kernel {path}:{function}: {path!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Kernels look up their own module by name (inspect, annotations).
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # of any kind: the file is somebody else's code
        raise ValueError(
            f"--kernel {path}:{function}: the file cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, function):
        raise ValueError(f"--kernel {path}:{function}: the file has no {function!r}")
    return getattr(module, function)


def run_case(kernel, convention: Convention, problem: Problem, target: str = "trn2", groups: int | None = None):
    """Run a kernel on a problem.

    Args:
        kernel: The kernel.
        convention: How to call it.
        problem: The attention problem.
        target: Platform.
        groups: Run only this many key heads with their query heads; costs are linear in them.

    Returns:
        (lines of the cost table, largest error against fp64, that of torch's bf16 attention, core report).
    """
    scale = 1.0
    if groups:
        scale = problem.kv_heads / groups
        heads = problem.heads // problem.kv_heads * groups
        problem = Problem(heads, groups, problem.head_dim, problem.seq, problem.window, problem.lnc)
    q, k, v = problem.inputs()
    with nki_profile(target, convention.relaxed) as report:
        out = convention.run(kernel, problem, core_grid(problem.lnc), q, k, v)
    exact = problem.reference(q, k, v)
    error = (out.double() - exact).abs().max().item()
    native = (problem.reference(q, k, v, q.dtype).double() - exact).abs().max().item()
    lines = {"largest error vs fp64": f"{error:.2e}", "torch bf16 attention's": f"{native:.2e}"}
    return lines | cost_lines(report.core, convention.tensors, scale), error, native, report.core


def _parser() -> ArgumentParser:
    parser = problem_parser("optimum_gemma4.nki.compare", __doc__.splitlines()[0])
    parser.add_argument("--kernel", action="append", default=[], metavar="PATH:FUNCTION", help="file and kernel name")
    parser.add_argument("--convention", choices=sorted(CONVENTIONS), help="calling convention, if not by the name")
    parser.add_argument("--groups", type=positive, help="run only so many key heads and scale the counts")
    parser.add_argument("--without-ours", action="store_true", help="leave flash_prefill out")
    return parser


def main(arguments=None) -> int:
    """Print the comparison as a Markdown table; exit status 1 if a kernel is wrong beyond bf16 (`run_command`)."""
    parser = _parser()
    return run_command(parser, parser.parse_args(arguments), _compare)


def _compare(options: Namespace) -> int:
    if options.groups and (options.groups > options.kv_heads or options.kv_heads % options.groups):
        raise ValueError(f"--groups {options.groups} does not divide --kv-heads {options.kv_heads}")
    problem = Problem(options.heads, options.kv_heads, options.d, options.seq, options.window, options.lnc)
    columns, wrong = {}, []
    for function, convention, kernel in _kernels(options):
        try:
            lines, error, native, _ = run_case(kernel, convention, problem, options.target, options.groups)
        except Exception as error:  # of any kind: the kernel is somebody else's code
            raise ValueError(f"{function} does not run on this problem: {type(error).__name__}: {error}") from error
        columns[function] = lines
        if not error <= 3 * native:
            wrong.append(function)
    title = f"simulated, d={options.d} S={options.seq} W={options.window} {options.heads}q/{options.kv_heads}kv"
    sys.stdout.write(table(columns, title))
    for function in wrong:
        sys.stdout.write(f"{function}: error beyond 3 x that of torch's bf16 attention\n")
    return 1 if wrong else 0


def _kernels(options: Namespace) -> list[tuple[str, Convention, Callable]]:
    """(name, convention, kernel) of everything that is compared; all are loaded before one is run."""
    kernels = []
    if not options.without_ours:
        ours = importlib.import_module(f"{__package__}.flash_prefill").flash_prefill
        kernels.append(("flash_prefill", CONVENTIONS["flash_prefill"], ours))
    for entry in options.kernel:
        path, _, function = entry.rpartition(":")
        if not path or not function:
            raise ValueError(f"--kernel {entry}: expected PATH:FUNCTION")
        kernel = load_kernel(path, function)
        name = options.convention or function
        if name not in CONVENTIONS:
            raise ValueError(
                f"no calling convention for {function!r}; name one of {sorted(CONVENTIONS)} by --convention"
            )
        kernels.append((function, CONVENTIONS[name], kernel))
    if not kernels:
        raise ValueError("nothing to compare: --without-ours and no --kernel")
    return kernels


if __name__ == "__main__":
    sys.exit(main())
