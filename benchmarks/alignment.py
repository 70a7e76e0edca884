"""Time and accuracy of the default alignment against the plain solver, in one run.

    python benchmarks/alignment.py                       # a simulated room, 4, 8 and 16 images
    python benchmarks/alignment.py --data rooms.npz      # stored predictions with the truth

Prints one JSON line for each number of images and kind of error. The two methods take turns, and
their times are medians over the rounds, by the clock and of the processor (all threads together),
which other work on the machine disturbs less; the ratios are what to compare between machines.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from croco3d.scene import PairPredictions, Scene, align
from croco3d.scene.alignment import Errors, PoseErrors, pose_errors, simulate_room

METHODS = {"best": None, "adam": "adam"}
KINDS = {
    "independent": {"errors": Errors(independent=0.01)},
    "correlated": {"errors": Errors(0.005, correlated=0.02, field_of_view=0.02)},
    "outliers": {"errors": Errors(0.005, correlated=0.02, field_of_view=0.02, outlier_pairs=0.2)},
    "low-overlap": {"errors": Errors(0.005, 0.02, 0.02), "sweep": 5.0, "graph": "swin-2"},
    "distances": {"errors": Errors(0.005, distances=0.1), "sweep": 1.2},
}


@dataclasses.dataclass
class Case:
    """Predictions and the truth behind them."""

    predictions: PairPredictions
    cam2world: torch.Tensor
    focals: torch.Tensor

    def errors(self, scene: Scene) -> PoseErrors:
        """How far an aligned scene is from the truth."""
        return pose_errors(scene, self.cam2world, self.focals)


def simulated(count: int, kind: str, size: int, seed: int) -> Case:
    room = simulate_room(count, (size, size), seed=seed, **KINDS[kind])
    return Case(room.predictions, room.cam2world, room.focals)


def stored(path: Path, count: int) -> Case:
    """The pairs of the first `count` images of a file as `shared/alignment` describes it."""
    with np.load(path) as data:
        if count > len(data["gt_poses"]):
            raise SystemExit(f"{path} holds {len(data['gt_poses'])} images; --images asks {count}.")
        kept = (data["pairs"] < count).all(1)
        names = ("pts3d1", "pts3d2", "conf1", "conf2")
        points1, points2, conf1, conf2 = (torch.from_numpy(data[name][kept]) for name in names)
        poses = torch.from_numpy(data["gt_poses"])[:count]
        focals = torch.full((count,), float(data["gt_focal"]), dtype=torch.float64)
        predictions = PairPredictions(data["pairs"][kept], points1, points2, conf1, conf2)
        return Case(predictions, poses, focals)


def compare(case: Case, rounds: int, seed: int) -> dict[str, object]:
    """Align with both methods in turn; times in seconds and errors of each."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in METHODS}
    errors: dict[str, PoseErrors] = {}
    for _ in range(rounds):
        for name, method in METHODS.items():
            wall, cpu = time.perf_counter(), time.process_time()
            scene = align(case.predictions, method=method, seed=seed)
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            errors[name] = case.errors(scene)
    result: dict[str, object] = {
        "images": case.predictions.image_count,
        "pairs": len(case.predictions),
        "size": list((case.predictions.sizes or [])[0]),
        "threads": torch.get_num_threads(),
        "rounds": rounds,
    }
    medians = {
        name: list(map(statistics.median, zip(*t, strict=True))) for name, t in times.items()
    }
    for name, (wall, cpu) in medians.items():
        result[name] = {
            "seconds": round(wall, 3),
            "cpu_seconds": round(cpu, 3),
            **dataclasses.asdict(errors[name]),
        }
    for index, name in enumerate(("ratio", "cpu_ratio")):
        result[name] = round(medians["adam"][index] / medians["best"][index], 1)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--images", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--kind", nargs="+", choices=sorted(KINDS), default=["independent"])
    parser.add_argument("--size", type=int, default=128, help="side of simulated views")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="stored predictions instead of simulated ones")
    options = parser.parse_args()
    align(simulated(3, "independent", 32, 0).predictions)  # the first call loads libraries
    for count in options.images:
        for kind in ["stored"] if options.data else options.kind:
            if options.data:
                case = stored(options.data, count)
            else:
                case = simulated(count, kind, options.size, options.seed)
            line = {"kind": kind, **compare(case, options.rounds, options.seed)}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
