"""Run a training over and over, killed by SIGKILL until it is left to finish.

Started by the tests as a process of its own: it imports once and forks for every attempt.
Arguments: a JSON file with the configuration, the number of processes, the seconds after which to
kill each attempt, `-` for one that is to finish.
"""

import json
import os
import signal
import socket
import sys
import time
import traceback

import torch
import training_toys

import croco3d.modeling.dust3r  # noqa: F401  (imported before the fork)
from croco3d.training import TrainConfig, options, setup, train  # noqa: F401


def attempt(config: dict, processes: int, kill_after: float | None) -> bool:
    """Fork the processes of one attempt; whether all of them finished."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [start(config, rank, processes, port) for rank in range(processes)]
    if kill_after is not None:
        time.sleep(kill_after)
        for child in children:
            os.kill(child, signal.SIGKILL)
    return [os.waitpid(child, 0)[1] for child in children] == [0] * processes


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


def main() -> None:
    """Make the attempts; the last one must finish."""
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    torch.set_num_threads(1)
    training_toys.register()
    for moment in sys.argv[3:]:
        began = time.perf_counter()
        finished = attempt(config, int(sys.argv[2]), None if moment == "-" else float(moment))
        seconds = time.perf_counter() - began
        sys.stdout.write(f"{'finished' if finished else 'killed'} {seconds:.3f}\n")
        if moment == "-" and not finished:
            sys.exit(1)


if __name__ == "__main__":
    main()
