"""The benchmark as a picture: where the time of one image goes, for every configuration, readable at 600 px."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from visionyard.benchmark.measure import Measurement

PLOT = "benchmark.png"
_WIDTH_IN = 6.0
_ROW_IN = 0.27
_GROUP_GAP = 0.9
_PHASES = (
    ("decode", "decode_ms", "#b8c4d6"),
    ("preprocess", "preprocess_ms", "#7d9cc9"),
    ("model", "infer_ms", "#1f5fa8"),
    ("postprocess", "postprocess_ms", "#e0a13c"),
)
_NAMES = {
    "onnx": "ONNX",
    "onnx-fp16": "ONNX fp16",
    "onnx-int8": "ONNX int8",
    "openvino": "OpenVINO",
    "torchscript": "TorchScript",
}
_INK, _SOFT = "#22303f", "#6b7887"
_STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "visionyard",
    "text.color": _INK,
    "axes.labelcolor": _SOFT,
    "xtick.color": _SOFT,
    "ytick.color": _INK,
}


def draw_plot(measurements: Sequence[Measurement], fastest: Measurement, path: Path, *, item: str = "image") -> None:
    """Write the plot as PNG and, beside it, as SVG.

    Args:
        measurements: Grouped by batch size and threads in the picture.
        fastest: Its label is set in bold.
        path: The PNG's.
        item: What people call what is looked at.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    ordered = sorted(measurements, key=lambda one: (one.batch_size, one.threads, one.format))
    groups = [list(group) for _, group in groupby(ordered, key=lambda one: (one.batch_size, one.threads))]
    with mpl.rc_context(_STYLE):
        height = 1.25 + _ROW_IN * (len(ordered) + _GROUP_GAP * len(groups))
        figure: Any = Figure(figsize=(_WIDTH_IN, height), facecolor="white", layout="constrained")
        axes = figure.add_subplot()
        _draw_rows(axes, groups, fastest, item)
        _dress(axes, ordered, item)
        figure.get_layout_engine().set(h_pad=0.06)
        source = "file" if item == "image" else "text"
        figure.suptitle(
            f"Time for one {item}, from {source} to prediction", x=0.02, ha="left", fontsize=11, weight="bold"
        )
        figure.savefig(path, dpi=200)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def _draw_rows(axes: Any, groups: list[list[Measurement]], fastest: Measurement, item: str) -> None:
    y, ticks, labels = 0.0, [], []
    for group in groups:
        first = group[0]
        threads = f"{first.threads} thread" + ("s" if first.threads > 1 else "")
        axes.annotate(
            f"batch {first.batch_size}, {threads}",
            (0, y),
            xycoords=("axes fraction", "data"),
            xytext=(2, 0),
            textcoords="offset points",
            va="center",
            color=_SOFT,
            fontsize=8,
        )
        y += 0.85
        for one in group:
            _draw_bar(axes, one, y, item, is_fastest=one == fastest)
            ticks.append(y)
            labels.append(_NAMES.get(one.format, one.format))
            y += 1.0
        y += _GROUP_GAP - 0.85
    axes.set_yticks(ticks, labels)
    axes.set_ylim(y - 0.3, -0.6)


def _draw_bar(axes: Any, one: Measurement, y: float, item: str, *, is_fastest: bool) -> None:
    left = 0.0
    for _, field, colour in _PHASES:
        width = getattr(one, field) / one.batch_size
        axes.barh(y, width, left=left, height=0.68, color=colour, linewidth=0)
        left += width
    p95 = one.p95_ms / one.batch_size
    axes.plot([left, p95], [y, y], color=_INK, linewidth=0.7, alpha=0.4)
    axes.plot([p95, p95], [y - 0.34, y + 0.34], color=_INK, linewidth=1.1, solid_capstyle="butt")
    text = f"{_milliseconds(one.p50_ms / one.batch_size, item)} ms, {one.images_per_s:.0f} {item}s/s" + (
        " (fastest)" if is_fastest else ""
    )
    axes.annotate(
        text,
        (max(left, p95), y),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        weight="bold" if is_fastest else "normal",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )


def _milliseconds(value: float, item: str) -> str:
    return f"{value:.1f}" if item == "image" or value >= 1 else f"{value:.2g}"


def _dress(axes: Any, ordered: list[Measurement], item: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    longest = max(max(one.p95_ms, one.p50_ms) / one.batch_size for one in ordered)
    axes.set_xlim(0, longest * 1.5)  # room for the words after the longest bar
    axes.set_xlabel(f"milliseconds {'an' if item == 'image' else 'a'} {item}")
    axes.grid(axis="x", color="#e6eaef", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)
    handles: list[Any] = [Patch(color=colour, label=name) for name, _, colour in _PHASES]
    handles.append(Line2D([], [], color=_INK, marker="|", markersize=8, linestyle="none", label="95 % of calls"))
    axes.figure.legend(
        handles=handles, loc="outside lower left", ncols=5, frameon=False, fontsize=7.5, handlelength=1.1
    )
