"""PyTorch eager: the loop of a careful user.

Rows lie in memory as one tensor and are taken by index: a DataLoader costs more than such a network trains. Losses are
read at the end of an epoch, not at each step.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from jaxtyping import Float
from torch import nn  # pyright: ignore[reportMissingImports]

from contest.work import Part, Weights, Work

torch.set_num_threads(1)


def train_trial(work: Work, place: int) -> Float[np.ndarray, "epochs 2"]:
    """Trains a trial for all its epochs."""
    row = work.rows[place]
    (x, y), (valid_x, valid_y) = tensors(work.train), tensors(work.valid)
    model = network(work.weights[place])
    optimizer = adam(model, row)
    mean_loss = nn.CrossEntropyLoss()
    curve = np.empty((work.epochs, 2))
    for epoch in range(work.epochs):
        losses = []
        for batch in torch.from_numpy(work.batches(epoch, row["batch_size"])):
            optimizer.zero_grad()
            loss = mean_loss(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        with torch.no_grad():
            curve[epoch] = torch.stack(losses).mean(), mean_loss(model(valid_x), valid_y)
    return curve


def tensors(part: Part) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the same memory as tensors; labels as the loss wants them."""
    x, y = part
    return torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))


def network(weights: Weights) -> nn.Sequential:
    """Returns linear layers of these weights, with relu between them."""
    modules: list[nn.Module] = []
    for layer in weights.values():
        linear = nn.utils.skip_init(nn.Linear, *layer["kernel"].shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(layer["kernel"].T))
            linear.bias.copy_(torch.from_numpy(layer["bias"]))
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def adam(model: nn.Module, row: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Returns Adam in one kernel, which is the fastest that PyTorch has for a CPU."""
    betas = row["beta1"], row["beta2"]
    return torch.optim.Adam(model.parameters(), lr=row["learning_rate"], betas=betas, eps=row["epsilon"], fused=True)
