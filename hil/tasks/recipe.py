"""How weights are fitted: the numbers a profile may set, apart from the code that needs torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How weights are fitted; the same recipe serves every network that is compared.

    Attributes:
        name: what errors call the network being trained.
        batch: pictures a step.
        peak_lr: highest learning rate of the one-cycle schedule, which rises over the first
            `rise` of all steps and falls to nearly nothing (Smith and Topin, 2018).
        weight_decay: decoupled, as in AdamW.
        label_smoothing: share of the target spread over all classes.
        shift_pixels: pictures are moved at random by up to this many pixels each way, zeros
            coming in at the edge; 0 leaves them in place.
        distil_weight: share of the distillation term in fine-tuning; labels get the rest.
        ema_decay: the weights kept are a moving average with this decay a step; 0 keeps the last.
        device: what is trained on: cpu, cuda, or auto for a GPU where there is one.
    """

    name: str = "the network"
    batch: int = 50
    peak_lr: float = 0.01
    rise: float = 0.25
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    shift_pixels: int = 1
    distil_weight: float = 0.5
    ema_decay: float = 0.0
    device: str = "cpu"
