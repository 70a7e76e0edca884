"""Seconds that `import croco3d` adds to `import torch`, and that `croco3d --help` takes.

python benchmarks/imports.py [--rounds 5]
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

from measuring import report

COMMANDS = {
    "torch": [sys.executable, "-c", "import torch"],
    "croco3d": [sys.executable, "-c", "import torch, croco3d"],
    "model_class": [sys.executable, "-c", "import torch; from croco3d import Dust3rForStereo"],
    "help": [sys.executable, "-m", "croco3d", "--help"],
}


def run(command: list[str]) -> tuple[float, float]:
    """Returns seconds by the clock and of the processor."""
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    times = {name: [run(command) for _ in range(rounds)] for name, command in COMMANDS.items()}
    wall, cpu = (
        {name: statistics.median(run[clock] for run in runs) for name, runs in times.items()}
        for clock in (0, 1)
    )
    report(
        benchmark="imports",
        torch_s=wall["torch"],
        torch_cpu_s=cpu["torch"],
        croco3d_adds_s=wall["croco3d"] - wall["torch"],
        croco3d_adds_cpu_s=cpu["croco3d"] - cpu["torch"],
        model_class_adds_cpu_s=cpu["model_class"] - cpu["torch"],
        help_s=wall["help"],
        help_cpu_s=cpu["help"],
    )


if __name__ == "__main__":
    main()
