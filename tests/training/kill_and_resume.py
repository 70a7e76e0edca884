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


def attempt(config: dict, processes: int, step_seconds: float | None = None) -> str:
    """Fork the processes of one attempt, kill them if told how long a step takes; say the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [start(config, rank, processes, port) for rank in range(processes)]
    if step_seconds is not None:
        wait_for_a_bad_moment(Path(config["output"]), children, step_seconds)
        for child in children:
            os.kill(child, signal.SIGKILL)
    ends = {os.waitpid(child, 0)[1] for child in children}
    return "finished" if ends == {0} else "killed" if signal.SIGKILL in ends else "failed"


def wait_for_a_bad_moment(folder: Path, children: list[int], step_seconds: float) -> None:
    """Wait for none, one or two more checkpoints, and then for part of a step.

    How fast a run gets on changes with the load of the machine; how far it has come does not.
    """

    def newest() -> int:
        saved = (folder / "checkpoints").glob("step-*")
        return max((int(path.name.removeprefix("step-")) for path in saved), default=0)

    def running() -> bool:
        peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return all(os.waitid(os.P_PID, child, peek) is None for child in children)

    goal = newest() + random.choice((0, 1, 1, 2))
    while newest() < goal and running():
        time.sleep(0.002)
    time.sleep(random.uniform(0, step_seconds))


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
    step_seconds = (time.perf_counter() - began) / config["steps"]
    killed = {**config, "output": str(path.parent / "killed")}
    for _ in range(request["kills"]):
        ends.append(attempt(killed, processes, step_seconds))
    ends.append(attempt(killed, processes))
    (path.parent / "ends.json").write_text(json.dumps(ends))


if __name__ == "__main__":
    torch.set_num_threads(1)
    training_toys.register()
    for name in sys.argv[1:]:
        run_and_kill(Path(name))
