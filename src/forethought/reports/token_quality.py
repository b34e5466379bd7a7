"""A picture of tokens: how full the codes are, how large the groups of equal items, how alike the codebooks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forethought.reports.pictures import BLUE, FAINT, INK, VERMILION, new_figure, save_figure
from forethought.semantic_ids.mutual_information import adjusted_mutual_information
from forethought.semantic_ids.token_table import TokenTable

MOST_BOOKS = 16  # in the map of redundancy


def draw_tokens(table: TokenTable, before: TokenTable, path: Path, title: str) -> None:
    """Draw it as .png, .svg or .pdf.

    Args:
        table: as tokens came out.
        before: as the tokenizer gave them, before collisions were resolved.
        path: one that `check_picture` let through.
    """
    figure = new_figure((11, 3.6), "Drawing a picture", layout="constrained")
    use, groups, alike = figure.subplots(1, 3)
    codes_NM = table.codes_NM.cpu().numpy()
    for codes_N in codes_NM.T:
        use.plot(np.sort(np.bincount(codes_N, minlength=table.size))[::-1], color=BLUE, linewidth=0.8, alpha=0.7)
    use.axhline(table.n_items / table.size, color=FAINT, linewidth=0.8)
    use.set(xlabel="codes of a book, fullest first", ylabel="items", title="Use")
    for each, colour, name in ((before, VERMILION, "before"), (table, BLUE, "after")):
        sizes = each.group_sizes().numpy()
        counts = np.bincount(sizes)
        at = np.flatnonzero(counts)
        groups.plot(at, counts[at] * at / each.n_items, "o", color=colour, markersize=4, label=name)
    groups.set(xlabel="items with the same tokens", ylabel="share of items", title="Groups", yscale="log")
    groups.legend(frameon=False)
    books = min(table.codebooks, MOST_BOOKS)
    heat = np.array([[_alike(codes_NM, a, b) for b in range(books)] for a in range(books)])
    shown = alike.imshow(heat, vmin=0, vmax=max(0.5, float(np.nanmax(heat)) if books > 1 else 0.5), cmap="Blues")
    alike.set(xlabel="codebook", ylabel="codebook", title="Redundancy (AMI)")
    for axis in (groups.xaxis, alike.xaxis, alike.yaxis):
        axis.get_major_locator().set_params(integer=True)  # there is no half an item, nor half a codebook
    figure.colorbar(shown, ax=alike, shrink=0.8)
    figure.suptitle(title, color=INK, fontsize=10)
    save_figure(figure, path)


def _alike(codes_NM: np.ndarray, a: int, b: int) -> float:
    """The lower half alone, as the map is the same on both sides."""
    return adjusted_mutual_information(codes_NM[:, a], codes_NM[:, b]) if b < a else float("nan")
