"""The figure for the paper: voltage profiles at half lithium, and mixtures against the line between their metals."""

import matplotlib.pyplot as plt
from matplotlib.ticker import MultipleLocator

from battery_screening.published import VOLTAGES
from battery_screening.structures import metal_fractions

#: Two columns of a page, in inches; letters of 8 points.
SIZE_IN = (7.0, 3.0)
STYLE = {"font.size": 8, "axes.linewidth": 0.6, "lines.linewidth": 1.3, "svg.fonttype": "none", "pdf.fonttype": 42}


def formula(metals):
    """Return LiNi0.5Co0.5O2 as it is set in print."""
    shares = metal_fractions(metals)
    inner = "".join(m if share == 1 else f"{m}$_{{{share:g}}}$" for m, share in shares.items())
    return f"Li$_x${inner}O$_2$"


def profiles(axes, fine):
    for color, (metals, row) in enumerate(fine.iterrows()):
        steps_V = [row["voltage_second_half_V"], row["voltage_first_half_V"], row["voltage_first_half_V"]]
        axes.plot([0, 0.5, 1], steps_V, drawstyle="steps-post", color=f"C{color}", label=formula(metals))
        if metals in VOLTAGES:
            measured_V = VOLTAGES[metals]["measured_V"]
            axes.axhline(measured_V, color=f"C{color}", linestyle=":", linewidth=1, label="measured average")
    axes.set(xlim=(0, 1), xlabel="lithium $x$", ylabel="voltage against Li (V)")
    axes.xaxis.set_major_locator(MultipleLocator(0.25))
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.45 * (high - low))
    axes.legend(frameon=False, ncols=2, loc="upper center", handlelength=1.4, columnspacing=1.0)


def mixing(axes, coarse, fine):
    pairs = sorted({tuple(metal_fractions(m)) for m in coarse.index if len(metal_fractions(m)) > 1})
    for color, pair in enumerate(pairs):
        for table, filled, label in ((coarse, "none", None), (fine, f"C{color}", f"{pair[0]}, {pair[1]}")):
            mixed = [m for m in table.index if tuple(metal_fractions(m)) == pair]
            shares = [metal_fractions(m)[pair[1]] for m in mixed]
            for state, marker in (("lithiated", "o"), ("delithiated", "s")):
                energies_meV = [table.loc[m, f"mixing_{state}_meV_per_formula_unit"] for m in mixed]
                axes.plot(
                    shares,
                    energies_meV,
                    marker,
                    color=f"C{color}",
                    markerfacecolor=filled,
                    markersize=5,
                    label=f"{label}: {'LiMO$_2$' if state == 'lithiated' else 'MO$_2$'}" if label else None,
                )
    axes.axhline(0, color="0.5", linewidth=0.6)
    axes.set(
        xlim=(0, 1),
        xlabel="share of the second metal (open: coarse, filled: fine)",
        ylabel="energy of mixing (meV per formula unit)",
    )
    axes.xaxis.set_major_locator(MultipleLocator(0.25))
    axes.margins(y=0.2)
    axes.legend(frameon=False, loc="best", handletextpad=0.2)


def draw(coarse, fine, folder):
    """Draw the figure, and save it to print (PDF, SVG) and to show (PNG)."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=SIZE_IN, layout="constrained")
        profiles(left, fine)
        mixing(right, coarse, fine)
        for axes, letter in ((left, "a"), (right, "b")):
            axes.set_title(f"({letter})", loc="left", fontsize=8)
            axes.tick_params(direction="in", width=0.6, top=True, right=True)
        for ending in ("pdf", "svg", "png"):
            figure.savefig(folder / f"figure.{ending}", dpi=300)
    return figure
