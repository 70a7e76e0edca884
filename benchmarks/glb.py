"""A GLB file of ten million coloured points: seconds to write it, against trimesh.

python benchmarks/glb.py [--points 10000000] [--rounds 3]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import trimesh
from measuring import interleave, ratios, report

from croco3d.scene.export import write_glb
from croco3d.scene.fusion import PointCloud


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    points = rng.normal(size=(options.points, 3)).astype(np.float32)
    colors = rng.integers(0, 256, (options.points, 3), dtype=np.uint8)
    confidences = np.ones(options.points, dtype=np.float32)
    cloud = PointCloud(points, colors, confidences)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours.glb"), Path(folder, "theirs.glb")
        functions = {
            "trimesh": lambda: trimesh.PointCloud(points, colors).export(theirs),
            "ours": lambda: write_glb(cloud, ours),
        }
        times, _ = interleave(functions, options.rounds, warmup=0)
        megabytes = ours.stat().st_size / 1e6
    report(
        benchmark="glb",
        million_points=options.points / 1e6,
        file_mb=megabytes,
        trimesh_s=times["trimesh"]["wall_s"],
        ours_s=times["ours"]["wall_s"],
        ours_cpu_s=times["ours"]["cpu_s"],
        **ratios(times["trimesh"], times["ours"]),
    )


if __name__ == "__main__":
    main()
