"""The records of training: optimizer, stages, input, sampling. Standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from delf_ext.config import require
from delf_ext.recipes.part import Part


@dataclass(frozen=True)
class RateFactor(Part):
    """group: parameters such as "trunk", "trunk/block1", "attention", "logits", "classifier"; factor: times `lr`."""

    group: str
    factor: float

    def check(self) -> None:
        require(self.factor > 0, f"RateFactor.factor must be above 0. Received {self.factor}.")


@dataclass(frozen=True)
class Optimizer(Part):
    """Base of the optimizers. factors: the last one that fits a parameter decides."""

    is_base: ClassVar[bool] = True
    lr: float = 1e-4
    factors: tuple[RateFactor, ...] = ()

    def check(self) -> None:
        require(self.lr > 0, f"{type(self).__name__}.lr must be above 0. Received {self.lr}.")


@dataclass(frozen=True)
class Adam(Optimizer):
    """Kingma and Ba 2015. weight_decay: L2 penalty on every trained weight, added to its gradient."""

    weight_decay: float = 0.0


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay, Loshchilov and Hutter 2019."""

    weight_decay: float = 0.01


@dataclass(frozen=True)
class Sgd(Optimizer):
    """Stochastic gradient descent with momentum; weight_decay is decoupled."""

    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Constant(Part):
    """The same learning rate in every step."""


@dataclass(frozen=True)
class CosineDecay(Part):
    """From `lr` to 0 over the stage, after a linear warm-up."""

    warmup_epochs: int = 0


@dataclass(frozen=True)
class StepDecay(Part):
    """Times `factor` after every `every_epochs`."""

    every_epochs: int = 8
    factor: float = 0.1


@dataclass(frozen=True)
class Plateau(Part):
    """Times `factor` after `patience` evaluations without a better value."""

    patience: int = 3
    factor: float = 0.1


Schedule = Constant | CosineDecay | StepDecay | Plateau


@dataclass(frozen=True)
class Stage(Part):
    """A stretch of training. trains: parameter groups; () = all that are not frozen. size_px: 0 = the input's."""

    epochs: int = 20
    schedule: Schedule = Constant()
    trains: tuple[str, ...] = ()
    size_px: int = 0

    def check(self) -> None:
        require(self.epochs >= 1, f"Stage.epochs must be at least 1. Received {self.epochs}.")


@dataclass(frozen=True)
class Augmentation(Part):
    """Base of the random changes of a training photograph; `data_io.augmentation` has a function for those built."""

    is_base: ClassVar[bool] = True

    def check(self) -> None:
        for name, value in vars(self).items():
            most = 1.0 if name.endswith(("share", "strength")) else math.inf
            bound = "above 0" if math.isinf(most) else "above 0 and at most 1"
            require(
                0 < value <= most,
                f"{type(self).__name__}.{name} must be {bound}. Received {value}.",
            )


@dataclass(frozen=True)
class Crop(Augmentation):
    """A random part of the photograph."""

    min_side_share: float = 0.7


@dataclass(frozen=True)
class MirrorLeftRight(Augmentation):
    """Left and right exchanged, in half of the cases."""


@dataclass(frozen=True)
class MirrorTopBottom(Augmentation):
    """Top and bottom exchanged, in half of the cases."""


@dataclass(frozen=True)
class Rotate(Augmentation):
    """Turned about the centre by at most max_deg degrees."""

    max_deg: float = 45.0


@dataclass(frozen=True)
class Blur(Augmentation):
    """Gaussian blur with a radius of at most max_px pixels."""

    max_px: float = 1.5


@dataclass(frozen=True)
class BlackPixels(Augmentation):
    """Single pixels go black, at most max_share of them."""

    max_share: float = 0.1


@dataclass(frozen=True)
class Noise(Augmentation):
    """Gaussian noise with a deviation of at most max_share of the range 0..255."""

    max_share: float = 0.05


@dataclass(frozen=True)
class ColourJitter(Augmentation):
    """Brightness, contrast and saturation times at most 1 + strength or 1 - strength."""

    strength: float = 0.2


@dataclass(frozen=True)
class Cutout(Augmentation):
    """A square of the photograph goes black; its side is side_share of the photograph's."""

    side_share: float = 0.4


@dataclass(frozen=True)
class ShiftScaleRotate(Augmentation):
    """Moved and scaled by at most these shares, and turned by at most max_deg degrees."""

    max_shift_share: float = 0.0625
    max_scale_share: float = 0.1
    max_deg: float = 45.0


@dataclass(frozen=True)
class Input(Part):
    """size_px: side of the square that a photograph is resized to. augment: random changes in training."""

    size_px: int = 224
    augment: tuple[Augmentation, ...] = ()

    def check(self) -> None:
        require(self.size_px >= 32, f"Input.size_px must be at least 32. Received {self.size_px}.")
        require(
            self.size_px <= 4096, f"Input.size_px must be at most 4096. Received {self.size_px}."
        )


@dataclass(frozen=True)
class Shuffled(Part):
    """Every image once an epoch."""

    batch_size: int = 64

    def check(self) -> None:
        require(
            self.batch_size >= 1,
            f"Shuffled.batch_size must be at least 1. Received {self.batch_size}.",
        )


@dataclass(frozen=True)
class Pairs(Part):
    """Pairs (0, 1), (2, 3), ... of a batch; half of them are of one class."""

    batch_size: int = 64

    def check(self) -> None:
        fits = self.batch_size >= 4 and self.batch_size % 2 == 0
        require(fits, f"Pairs.batch_size must be even and at least 4. Received {self.batch_size}.")


@dataclass(frozen=True)
class PxK(Part):
    """Batches of `classes` classes with `images` images each."""

    classes: int = 16
    images: int = 4

    def check(self) -> None:
        require(self.classes >= 2, f"PxK.classes must be at least 2. Received {self.classes}.")
        require(self.images >= 2, f"PxK.images must be at least 2. Received {self.images}.")

    @property
    def batch_size(self) -> int:
        return self.classes * self.images


Sampling = Shuffled | Pairs | PxK
