"""Muon for the matrices inside the network, AdamW for everything else, and one schedule for both."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

_EDGE = ("embed", "lm_head", "patch_embed", "position", "stem")
"""Parts of names of matrices that are no map from hidden state to hidden state: Muon is not meant for them."""


class Optimiser:
    """Both optimisers as one.

    Args:
        rate: AdamW's learning rate at the plateau. Muon's updates are scaled to the size of AdamW's, and its rate is
            ``muon_scale`` times this one.
    """

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], rate: float, muon_scale: float = 2.0) -> None:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in named:
            inner = parameter.dim() == 2 and not any(part in name for part in _EDGE)
            (matrices if inner else others).append(parameter)
        self.rate, self.muon_scale = rate, muon_scale
        self.adam = torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.97), weight_decay=0.0)
        self.muon = torch.optim.Muon(
            matrices, lr=rate, momentum=0.95, weight_decay=0.0, adjust_lr_fn="match_rms_adamw", ns_steps=5
        )
        self.parameters = [*matrices, *others]

    def step(self, factor: float) -> None:
        """One update with ``factor`` of the plateau's rate, gradients clipped to norm 1; clears the gradients."""
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.rate * factor
        for group in self.muon.param_groups:
            group["lr"] = self.rate * self.muon_scale * factor
        self.adam.step()
        self.muon.step()  # type: ignore[no-untyped-call]
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, object]:
        """To resume from."""
        return {"adam": self.adam.state_dict(), "muon": self.muon.state_dict()}

    def load_state_dict(self, state: dict[str, dict[str, object]]) -> None:
        """Resume."""
        self.adam.load_state_dict(state["adam"])
        self.muon.load_state_dict(state["muon"])


def schedule(step: int, done: float, warmup: int = 100, decay: float = 0.5) -> float:
    """Factor of the learning rate: linear warm-up, plateau, then linear to 0.03 over the last ``decay`` of the run.

    Args:
        done: share of the run that is done, 0..1.
    """
    up = min(1.0, (step + 1) / warmup)
    down = 1.0 if done < 1 - decay else max(0.03, (1 - done) / decay)
    return up * down
