"""An official-size checkpoint from a warm disk: seconds until ready, peak memory, first pair.

    python benchmarks/loading.py [--checkpoint FOLDER]

Each measurement is a fresh process; the memory of Python and the libraries is taken off. Without
`--checkpoint`, one with fresh weights is written to a temporary folder.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import official_model, report

CHILD = """
import json, resource, sys, time
import torch
from croco3d import Dust3rForStereo
folder, dtype, optimize = sys.argv[1], sys.argv[2], sys.argv[3] == "1"
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, wall, cpu = peak(), time.perf_counter(), time.process_time()
model = Dust3rForStereo.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
found = {"load_wall_s": time.perf_counter() - wall, "load_cpu_s": time.process_time() - cpu}
for parameter in model.parameters():  # mapped weights count when they are read
    parameter.sum()
found["load_peak_bytes"] = peak() - before
if optimize:
    wall, cpu = time.perf_counter(), time.process_time()
    model.optimize_for_inference()
    found["optimize_cpu_s"] = time.process_time() - cpu
    image = torch.zeros(1, 3, 384, 512)
    with torch.inference_mode():
        model(image, image, symmetrized=False)
    found["pair_peak_bytes"] = peak()
print(json.dumps(found))
"""


def measure(folder: Path, dtype: str, optimize: bool) -> dict[str, float]:
    command = [sys.executable, "-c", CHILD, str(folder), dtype, str(int(optimize))]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.checkpoint or Path(temporary)
        if options.checkpoint is None:
            official_model("dpt").save_pretrained(folder)
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        for dtype in ("float32", "bfloat16"):
            measure(folder, dtype, optimize=False)  # warms the disk
            found = measure(folder, dtype, optimize=True)
            report(
                benchmark="loading",
                dtype=dtype,
                file_gb=size / 1e9,
                load_wall_s=found["load_wall_s"],
                load_cpu_s=found["load_cpu_s"],
                peak_over_file=found["load_peak_bytes"] / size,
                optimize_cpu_s=found["optimize_cpu_s"],
                pair_peak_gb=found["pair_peak_bytes"] / 1e9,
            )


if __name__ == "__main__":
    main()
