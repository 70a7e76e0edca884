"""Train once to the end; then again, killed by SIGKILL at random moments, until it is done.

Started by the tests as a process of its own: it imports once and forks for every attempt.
Arguments: JSON files with a configuration, the number of processes and of kills. The runs go to the
folders `whole` and `killed` beside a file, and `ends.json` says how each attempt ended.
"""

import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import torch
import training_toys

import croco3d.modeling.dust3r  # noqa: F401  (imported before the fork)
from croco3d.training import TrainConfig, options, train


def attempt(config: dict, processes: int, kill_after: float | None = None) -> str:
    """Fork the processes of one attempt, and say how it ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [start(config, rank, processes, port) for rank in range(processes)]
    if kill_after is not None:
        time.sleep(kill_after)
        for child in children:
            os.kill(child, signal.SIGKILL)
    ends = {os.waitpid(child, 0)[1] for child in children}
    return "finished" if ends == {0} else "killed" if signal.SIGKILL in ends else "failed"


def start(config: dict, rank: int, processes: int, port: int) -> int:
    """Fork one process of an attempt and give its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        if processes > 1:
            world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes}
            world |= {"LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1"}
            os.environ.update({k: str(v) for k, v in {**world, "MASTER_PORT": port}.items()})
        run = train(options.parse(TrainConfig, config))
        assert run.accelerator.num_processes == processes
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def run_and_kill(path: Path) -> None:
    """Make the whole run, then the killed one."""
    request = json.loads(path.read_text())
    config, processes = request["config"], request["processes"]
    began = time.perf_counter()
    ends = [attempt({**config, "output": str(path.parent / "whole")}, processes)]
    seconds = time.perf_counter() - began
    killed = {**config, "output": str(path.parent / "killed")}
    for _ in range(request["kills"]):
        # Spread over the part of a run that loads, trains, saves and validates.
        ends.append(attempt(killed, processes, random.uniform(0.3, 0.9) * seconds))
    ends.append(attempt(killed, processes))
    (path.parent / "ends.json").write_text(json.dumps(ends))


if __name__ == "__main__":
    torch.set_num_threads(1)
    training_toys.register()
    for name in sys.argv[1:]:
        run_and_kill(Path(name))
