"""Train on two CPU processes sharded by FSDP2, which accelerate offers on GPUs only.

Started by `accelerate launch`; arguments: a configuration and overrides.
"""

import sys

import torch
import training_toys
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from croco3d.training import load_config, train

if __name__ == "__main__":
    torch.set_num_threads(1)
    training_toys.register()
    PartialState(cpu=True)
    # Told that its processes are on GPUs, accelerate shards over gloo just as well.
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    run = train(load_config(sys.argv[1], sys.argv[2:]))
    assert run.accelerator.distributed_type == DistributedType.FSDP
    assert run.accelerator.num_processes == 2
    assert all(isinstance(p, DTensor) for p in run.model.parameters())
