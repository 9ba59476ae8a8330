# SPDX-License-Identifier: Apache-2.0
"""Lines of the cost tables that `profile` and `compare` print: what one physical core does in a simulated launch.

Every figure is simulated: counts and cycles by AWS's documented formulas, times at the published clocks. `dma` times
are bytes (with short rows charged as 512) over the rate of the core's 16 DMA engines.
"""

from collections.abc import Sequence


MIB = 1024 * 1024
COMPUTE = ("pe", "vector", "scalar", "gpsimd")


def cost_lines(core, tensors: dict[str, Sequence[str]], scale: float = 1.0) -> dict[str, str]:
    """Describe a core.

    Args:
        core: Its `CoreReport`, from `simulator.nki_report`.
        tensors: Heading -> names of the kernel's tensors that are added up under it.
        scale: Factor of the extensive figures, when only some of the head groups were run.

    Returns:
        Line heading -> value.
    """
    lines = {
        "nc_matmul": f"{core.count('nc_matmul') * scale:,.0f}",
        "nc_transpose": f"{core.count('nc_transpose') * scale:,.0f}",
        "affine_select": f"{core.count('affine_select') * scale:,.0f}",
        "instructions": f"{sum(sum(c.values()) for c in core.counts.values()) * scale:,.0f}",
    }
    for engine in COMPUTE:
        lines[f"{engine} cycles"] = f"{core.cycles(engine) * scale:,.0f}"
    for heading, names in tensors.items():
        lines[f"DMA MiB {heading}"] = f"{core.bytes_of(*names) * scale / MIB:,.1f}"
    lines["DMA MiB in rows < 256 B"] = f"{core.small_row_bytes * scale / MIB:,.1f}"
    lines["peak SBUF KiB a partition"] = f"{core.peak_sbuf / 1024:,.1f}"
    lines["peak PSUM banks"] = f"{core.peak_psum}"
    for target in ("trn2", "trn1"):
        busy = core.engine_ns(target) | {"dma": core.busy_ns("dma", target)}
        lines[f"busy ms {target} (pe / vector / scalar / gpsimd / dma)"] = " / ".join(
            f"{busy[engine] * scale / 1e6:.3f}" for engine in (*COMPUTE, "dma")
        )
    lines["timeline ms trn2"] = f"{core.total_ns('trn2') * scale / 1e6:.3f}"
    lines["timeline ms trn2, program order"] = f"{core.total_ns('trn2', reorder=False) * scale / 1e6:.3f}"
    lines["timeline ms trn1"] = f"{core.total_ns('trn1') * scale / 1e6:.3f}"
    if core.relaxed:
        lines["rules relaxed"] = ", ".join(
            f"{name} x {count * scale:,.0f}" for name, count in sorted(core.relaxed.items())
        )
    return lines


def table(columns: dict[str, dict[str, str]], title: str) -> str:
    """Lay columns out as a Markdown table.

    Args:
        columns: Column heading -> lines; a line that a column lacks stays empty.
        title: Heading of the first column.
    """
    rows = list(dict.fromkeys(name for lines in columns.values() for name in lines))
    cells = [[title, *columns]] + [[row, *(lines.get(row, "") for lines in columns.values())] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    text = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths)) + " |" for line in cells]
    text.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(text) + "\n"
