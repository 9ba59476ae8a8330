# SPDX-License-Identifier: Apache-2.0
"""Picture of a core's engine timelines: one row an engine, SVG by hand or PNG with pillow.

A picture is 1200 pixels wide; in each column an engine's bar is as high as the share of that time it is busy, so that
10^5 instructions stay readable. Colours separate instruction kinds only by engine.
"""

from pathlib import Path

from .._machine.hardware import DMA, ENGINES, generation


COLUMNS, ROW, LEFT, TOP = 1000, 60, 110, 50
COLOURS = {"pe": "#1f77b4", "vector": "#2ca02c", "scalar": "#ff7f0e", "gpsimd": "#9467bd", "dma": "#7f7f7f"}
LABELS = {"pe": "Tensor (PE)", "vector": "Vector", "scalar": "Scalar (ACT)", "gpsimd": "GpSimd", "dma": "DMA"}


def occupancy(core_report, target: str, fast: bool) -> tuple[dict[str, list[float]], float]:
    """Busy share of every engine in each of `COLUMNS` slices of the timeline, and its length in ns."""
    total = core_report.total_ns(target, fast)
    shares = {engine: [0.0] * COLUMNS for engine in ENGINES}
    if not total:
        return shares, total
    width, origin, latency = total / COLUMNS, 0.0, generation(target).dma_latency_ns
    for trace, timeline in zip(core_report.traces, core_report.timelines(target, fast)):
        for instruction, start, end in zip(trace.instructions, timeline.starts, timeline.ends):
            row = shares[instruction.engine]
            if instruction.engine == DMA:
                # The latency keeps no engine busy.
                end -= latency
            begin, finish = (start + origin) / width, (end + origin) / width
            for column in range(int(begin), min(COLUMNS, int(finish) + 1)):
                row[column] += max(0.0, min(finish, column + 1) - max(begin, column))
        origin += timeline.total
    return {e: [min(1.0, x) for x in row] for e, row in shares.items()}, total


def _layout(core_report, target, fast, title):
    shares, total = occupancy(core_report, target, fast)
    texts = [
        (10, 22, f"{title or 'NKI kernel'}: {total / 1000:.1f} us on {target}, core {core_report.core} (simulated)")
    ]
    bars = []
    for number, engine in enumerate(ENGINES):
        base = TOP + number * ROW + ROW - 12
        busy = core_report.busy_ns(engine, target, fast) / total if total else 0.0
        texts.append((10, base - 18, LABELS[engine]))
        texts.append((10, base - 3, f"{100 * busy:.0f} % busy"))
        for column, share in enumerate(shares[engine]):
            if share > 0:
                bars.append((LEFT + column, base - share * (ROW - 20), base, COLOURS[engine]))
    bottom = TOP + len(ENGINES) * ROW
    for step in range(6):
        texts.append((LEFT + step * COLUMNS // 5 - 10, bottom + 18, f"{total * step / 5000:.1f} us"))
    return bars, texts, (LEFT + COLUMNS + 60, bottom + 30)


def draw(core_report, path, target: str = "trn2", fast: bool = False, title: str = "") -> None:
    """Write the picture.

    Args:
        core_report: A `CoreReport`.
        path: Ends in `.svg` or `.png`.
        target: Generation to schedule for.
        fast: Use the Vector performance modes.
        title: Heading.

    Raises:
        ValueError: For another ending.
    """
    path = Path(path)
    if path.suffix not in (".svg", ".png"):
        raise ValueError(f"cannot draw {path.name!r}: the name must end in .svg or .png")
    bars, texts, size = _layout(core_report, target, fast, title)
    (_svg if path.suffix == ".svg" else _png)(path, bars, texts, size)


def _svg(path, bars, texts, size) -> None:
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}" font-family="sans-serif">']
    lines.append('<rect width="100%" height="100%" fill="white"/>')
    for x, top, base, colour in bars:
        lines.append(f'<rect x="{x}" y="{top:.1f}" width="1" height="{base - top:.1f}" fill="{colour}"/>')
    for x, y, text in texts:
        escaped = text.replace("&", "&amp;").replace("<", "&lt;")
        lines.append(f'<text x="{x}" y="{y}" font-size="12">{escaped}</text>')
    path.write_text("\n".join([*lines, "</svg>", ""]), encoding="utf-8")


def _png(path, bars, texts, size) -> None:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", size, "white")
    canvas = ImageDraw.Draw(image)
    for x, top, base, colour in bars:
        canvas.line((x, top, x, base), fill=colour)
    for x, y, text in texts:
        canvas.text((x, y - 11), text, fill="black")
    image.save(path)
