#!/usr/bin/env python3
"""Draws the peaks of recorded runs against the size of their input, and prints a table of them.

    highwater export lungs | python3 peaks.py - peaks.png

Exact peaks are dots. A lower bound is a triangle that points up: the run needed at least this much, because memory ran
out or its peak was sampled. A vertical line leads from it to the upper bound, if the record has one; a bound far above all
peaks is outside of the picture.

Needs pandas and matplotlib.
"""

import sys

import matplotlib
import pandas as pd

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

MIB = 1 << 20


def read(file):
    """The runs that show what a task needs, in MiB: those that succeeded, and those for which memory ran out."""
    runs = pd.read_csv(file, dtype={"task": str, "censored": str})
    runs = runs[(runs.exit_status == 0) | runs.censored.isin(["limit", "oom"])]
    runs = runs.dropna(subset=["input_bytes", "peak_bytes"]).fillna({"task": "task"})
    runs["is_exact"] = (runs.peak_exactness == "exact") & runs.censored.isna()
    for name in ["input", "peak", "peak_at_most"]:
        runs[name] = runs[f"{name}_bytes"] / MIB
    return runs


def table(runs):
    """A line for each input: the median and the highest of its exact peaks, and the highest of its lower bounds."""
    peaks = runs.assign(exact=runs.peak.where(runs.is_exact), bound=runs.peak.where(~runs.is_exact))
    lines = peaks.groupby(["task", "input"]).agg(
        runs=("peak", "size"),
        median=("exact", "median"),
        highest=("exact", "max"),
        at_least=("bound", "max"),
    )
    return lines.round(1)


def draw(runs):
    """A figure with every run."""
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for number, (task, of_task) in enumerate(runs.groupby("task")):
        color = f"C{number}"
        exact, bounds = of_task[of_task.is_exact], of_task[~of_task.is_exact]
        if not exact.empty:
            axes.scatter(exact.input, exact.peak, s=20, color=color, label=f"{task}, exact")
        if not bounds.empty:
            hollow = {"marker": "^", "facecolors": "none", "edgecolors": color}
            axes.scatter(bounds.input, bounds.peak, label=f"{task}, at least", **hollow)
        ranges = bounds.dropna(subset="peak_at_most")
        if not ranges.empty:
            axes.vlines(ranges.input, ranges.peak, ranges.peak_at_most, colors=color, linewidth=1)
    axes.set(xlabel="input, MiB", ylabel="peak, MiB", xlim=(0, None), ylim=(0, 1.25 * runs.peak.max()))
    axes.legend()
    return figure


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: peaks.py RUNS.csv|- PICTURE")
    runs = read(sys.stdin if sys.argv[1] == "-" else sys.argv[1])
    if runs.empty:
        sys.exit("peaks.py: no run has an input and a peak")
    print("All sizes are in MiB.\n")
    print(table(runs).to_string(na_rep="-"))
    draw(runs).savefig(sys.argv[2], dpi=150)


if __name__ == "__main__":
    main()
