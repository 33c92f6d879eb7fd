"""Digests of weights and of whole trainings."""

import hashlib
import json
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn

from lgutils.data import Normalize, checksum
from lgutils.train.config import FitConfig


def weight_hash(model: nn.Module) -> str:
    """Hex SHA-256 over the names and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def fit_key(
    model: nn.Module, images: Tensor, labels: Tensor, normalize: Normalize, config: FitConfig
) -> str:
    """Hex SHA-256 of what decides a training: settings, first weights, images and their normalisation."""
    settings = replace(config, log_every=1).told()
    about = [settings, weight_hash(model), list(images.shape), asdict(normalize)]
    text = json.dumps(about, sort_keys=True)
    sums = f"{checksum(images)}-{int(labels.sum())}"
    return hashlib.sha256((text + sums).encode()).hexdigest()
