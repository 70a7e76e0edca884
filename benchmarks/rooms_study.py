"""What CroCo, supervised attention, decoders, heads, symmetry and Muon are worth, when small.

Trains every variant of `configs/rooms/study` with the project's own commands, evaluates each on the
near test set, and prints one JSON line a run; with `--figure`, also a plot of all runs. Runs whose
result is there already are not made again.

    python benchmarks/rooms_study.py --rooms data/rooms_train --out runs/study --figure study.png
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

CONFIGS = Path(__file__).parents[1] / "configs" / "rooms" / "study"
VARIANTS = {
    "base": "attention supervised, two decoders, linear heads, both orders",
    "plain": "no attention supervision",
    "ray": "directions regressed as well",
    "from_croco": "a third of the compute on CroCo first",
    "shared": "one decoder for both views",
    "deeper": "decoders of three blocks",
    "dpt": "decoders of three blocks, DPT heads",
    "one_order": "each pair in one order",
    "muon": "Muon in place of AdamW",
    "narrow": "Muon, 64 channels, longer",
    "wide": "Muon, 192 channels, shorter",
}
METRICS = ("pointmap", "abs_rel_median_scale", "rra_5", "rra_15", "rta_15", "rotation_median")


def run_variant(name: str, seed: int, rooms: Path, near: Path, out: Path) -> dict:
    """Train one variant and evaluate it; read its result where it has one."""
    result = out / f"{name}-{seed}" / "result.json"
    if result.is_file():
        return json.loads(result.read_text())
    begun = time.perf_counter()
    changes = []
    if name == "from_croco":
        croco = out / f"croco-{seed}"
        train("croco", seed, rooms, croco)
        changes = [f"model.init_from={croco / 'last'}"]
    folder = out / f"{name}-{seed}"
    train(name, seed, rooms, folder, changes)
    seconds = time.perf_counter() - begun
    report = folder / "evaluation"
    command("evaluate", folder / "last", near, "--resolution", "64x48", "--baseline", "none",
            "-o", report)  # fmt: skip
    (summary,) = json.loads((report / "report.json").read_text())["summary"].values()
    figures = {metric: summary[metric] for metric in METRICS}
    line = {"variant": name, "seed": seed, "seconds": round(seconds), **figures}
    result.write_text(json.dumps(line))
    return line


def train(name: str, seed: int, rooms: Path, folder: Path, changes: Iterable[str] = ()) -> None:
    """Run `croco3d train` on one file of the study."""
    command("train", CONFIGS / f"{name}.yaml", f"output={folder}", f"seed={seed}",
            f"data.train.0.root={rooms}", *changes)  # fmt: skip


def command(*arguments: object) -> None:
    """Run `croco3d` and show what it said if it fails."""
    program = [sys.executable, "-m", "croco3d", *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(program)} failed:\n{done.stderr[-3000:]}")


def draw(lines: list[dict], path: Path) -> None:
    """Plot error and rotations of all runs, one row a variant, one dot a seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {"pointmap": "pointmap error (less is better)", "rra_15": "RRA@15 (more is better)"}
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
    names = [name for name in VARIANTS if any(line["variant"] == name for line in lines)]
    for axis, (metric, title) in zip(axes, panels.items(), strict=True):
        for line in lines:
            axis.plot(line[metric], names.index(line["variant"]), "o", color="tab:blue")
        axis.set_title(title, fontsize=10)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(names)), [VARIANTS[name] for name in names])
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rooms", type=Path, required=True, help="rendered training rooms")
    parser.add_argument("--tests", type=Path, help="folder of the rendered test rooms")
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--figure", type=Path, help="where to draw the plot")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    near = options.out / "near.yaml"
    folder = "" if options.tests is None else f", root: {options.tests}"
    near.write_text(f"- {{reader: room_test_set, name: near{folder}}}\n")
    lines = []
    for seed in options.seeds:
        for name in options.variants:
            lines.append(run_variant(name, seed, options.rooms, near, options.out))
            print(json.dumps(lines[-1]), flush=True)
    if options.figure is not None:
        draw(lines, options.figure)


if __name__ == "__main__":
    main()
