"""Train on two CPU processes under DeepSpeed, which accelerate offers on GPUs only.

Started by `accelerate launch`; arguments: a configuration and overrides.
"""

import sys

import deepspeed
import torch
import training_toys
from accelerate.state import PartialState
from accelerate.utils import DistributedType

from croco3d.training import load_config, train

if __name__ == "__main__":
    torch.set_num_threads(1)
    training_toys.register()
    # Its own way of communicating is compiled for minutes; gloo does.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    PartialState(cpu=True)
    # Told that it is on GPUs, accelerate starts DeepSpeed over gloo just as well.
    PartialState._shared_state["distributed_type"] = DistributedType.DEEPSPEED
    run = train(load_config(sys.argv[1], sys.argv[2:]))
    assert isinstance(run.model, deepspeed.DeepSpeedEngine)
    assert run.accelerator.num_processes == 2
