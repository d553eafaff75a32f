"""Inputs and weights for tests of networks that any program can make again, so that answers can come from elsewhere."""

import math

import torch

GOLDEN_RATIO = 0.6180339887498949


def pattern(state):
    """Weights for a state dict: fractions of multiples of the golden ratio, so that activations stay moderate."""
    result = {}
    for index, (key, value) in enumerate(state.items()):
        if not value.is_floating_point():
            result[key] = torch.zeros_like(value)
            continue
        numbers = ((torch.arange(value.numel(), dtype=torch.float64) + 7 * index + 1) * GOLDEN_RATIO % 1).view(
            value.shape
        )
        if value.ndim > 1:
            numbers = (numbers - 0.5) * math.sqrt(24 / value[0].numel())
        elif key.endswith(("running_var", "weight")):
            numbers = numbers + 0.5
        else:
            numbers = numbers - 0.5
        result[key] = numbers.to(value.dtype)
    return result


def picture(batch, channels, height, width):
    """Waves in [0, 1]: [batch, channels, height, width] float32."""
    c, y, x = torch.meshgrid(
        *[torch.arange(n, dtype=torch.float64) for n in (batch * channels, height, width)], indexing="ij"
    )
    waves = 0.5 + 0.5 * torch.sin(0.37 * x + 0.11 * y * (1 + c) + c)
    return waves.view(batch, channels, height, width).float()


def parameter_count(network):
    """How many numbers are trained, or were."""
    return sum(value.numel() for value in network.parameters())
