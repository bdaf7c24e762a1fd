"""A program for one of several processes: is a trainer's model really divided? Prints what it found, as JSON."""

from __future__ import annotations

import json
import sys

import torch.distributed
from torch.distributed.tensor import DTensor

from racro.training import sharding
from racro.training.trainer import Trainer


def main(processes: int, hybrid: int | None) -> None:
    from tests.training.test_processes import training

    trainer = Trainer(training(processes=processes, shard="fsdp", hybrid=hybrid), None).trainer
    models = {"policy": trainer.model, "reference": trainer.ref_model}
    found = {
        name: {
            "modules": sharding.shards_of(model),
            "plain": sum(not isinstance(value, DTensor) for value in model.parameters()),
            "here": sum(sharding.local(value).numel() for value in model.parameters()),
            "whole": sum(value.numel() for value in model.parameters()),
        }
        for name, model in models.items()
    }
    if torch.distributed.get_rank() == 0:
        print(json.dumps(found), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) or None)
