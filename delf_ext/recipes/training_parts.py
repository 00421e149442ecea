"""Define the training records of a recipe: optimizer, stages, input and sampling.

They use the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from delf_ext.config import require
from delf_ext.recipes.part import (
    AtLeast1,
    BatchSize,
    Below1,
    LearningRate,
    NotNegative,
    Part,
    Positive,
    Range,
    Share,
    SidePx,
)

GroupSize = Annotated[int, Range(low=2, high=4096)]

Decays = Literal["all", "kernels"]

# --- optimizers


@dataclass(frozen=True)
class RateFactor(Part):
    """Another learning rate for one parameter group.

    Attributes:
        group: parameters such as "trunk", "trunk/block1", "attention", "logits" or "classifier".
        factor: factor of `Optimizer.lr` for these parameters, above 0.
    """

    group: str
    factor: Positive


@dataclass(frozen=True)
class Optimizer(Part):
    """Base of the optimizers.

    Attributes:
        lr: base learning rate, above 0; the schedule of a stage changes it.
        factors: other learning rates for some groups; if several fit a parameter, the last counts.
    """

    is_base: ClassVar[bool] = True
    lr: LearningRate = 1e-4
    factors: tuple[RateFactor, ...] = ()


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba, arXiv:1412.6980).

    Attributes:
        lr: learning rate.
        factors: other learning rates for some groups.
        weight_decay: factor of an L2 penalty on the trained weights, added to their gradients.
        decays: weights that decay: "kernels", those with two or more axes, or "all": also biases,
            scale and offset of batch norms, slopes of PReLU and the power of GeM.
    """

    weight_decay: NotNegative = 0.0
    decays: Decays = "kernels"


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101).

    Attributes:
        lr: learning rate.
        factors: other learning rates for some groups.
        weight_decay: each step subtracts lr * weight_decay * weight.
        decays: weights that decay: "kernels" or "all", see `Adam`.
    """

    weight_decay: NotNegative = 0.01
    decays: Decays = "kernels"


@dataclass(frozen=True)
class Sgd(Optimizer):
    """Stochastic gradient descent with momentum.

    Attributes:
        lr: learning rate.
        factors: other learning rates for some groups.
        momentum: share of the last update that is added to the next one.
        nesterov: use Nesterov momentum.
        weight_decay: each step subtracts lr * weight_decay * weight.
        decays: weights that decay: "kernels" or "all", see `Adam`.
    """

    momentum: Below1 = 0.9
    nesterov: bool = True
    weight_decay: NotNegative = 0.0
    decays: Decays = "kernels"


# --- stages


@dataclass(frozen=True)
class Constant(Part):
    """The same learning rate in every step."""


@dataclass(frozen=True)
class CosineDecay(Part):
    """Cosine decay to 0 at the end of the stage (Loshchilov and Hutter, arXiv:1608.03983).

    Attributes:
        warmup_epochs: epochs in which the rate first rises linearly from 0 to `lr`; can be a
            fraction.
    """

    warmup_epochs: NotNegative = 0.0


@dataclass(frozen=True)
class StepDecay(Part):
    """Multiply the learning rate at fixed intervals.

    Attributes:
        every_epochs: epochs between two changes.
        factor: factor of each change.
    """

    every_epochs: AtLeast1 = 8
    factor: Share = 0.1


@dataclass(frozen=True)
class Plateau(Part):
    """Multiply the learning rate if the evaluation on the dev split stops improving.

    Attributes:
        patience: evaluations without a better value before a change.
        factor: factor of each change.
    """

    patience: AtLeast1 = 3
    factor: Share = 0.1


Schedule = Constant | CosineDecay | StepDecay | Plateau


@dataclass(frozen=True)
class Stage(Part):
    """A number of epochs with the same trained parameters and image size.

    Attributes:
        epochs: passes over the training images.
        schedule: learning rate within the stage; None: the schedule of the stage before runs on,
            over both stages together.
        trains: parameter groups that are trained; () means all that are not frozen.
        size_px: side of the input images in pixels; 0 means `Input.size_px`.
    """

    epochs: AtLeast1 = 20
    schedule: Schedule | None = Constant()
    trains: tuple[str, ...] = ()
    size_px: Annotated[int, Range(low=0, high=4096)] = 0


# --- averages of the weights


@dataclass(frozen=True)
class Averaging(Part):
    """Base of the averages of the weights; training continues from the weights themselves."""

    is_base: ClassVar[bool] = True


@dataclass(frozen=True)
class Ema(Averaging):
    """Exponential moving average over the updates of the weights.

    Attributes:
        decay: share of the average that an update keeps. After t updates it is at most
            (1 + t) / (10 + t), so that a short run forgets its first weights.
    """

    decay: Below1 = 0.999


@dataclass(frozen=True)
class Swa(Averaging):
    """Mean of the weights at the end of some epochs (Izmailov et al., arXiv:1803.05407).

    Statistics of batch norms are averaged too, not computed again: set
    `model.trunk.batch_norm` to "inference".

    Attributes:
        start_epoch: number of epochs after which the weights are averaged for the first time.
        every_epochs: epochs between two weights that are averaged.
    """

    start_epoch: AtLeast1 = 5
    every_epochs: AtLeast1 = 1


# --- augmentation and input


@dataclass(frozen=True)
class Augmentation(Part):
    """Base of the random changes of training images.

    `data_io.augmentation` has a function of the same name, in snake case, for each one, and
    `data_io.changes.mixing` for those that mix images. Its class variable is not a setting.

    Attributes:
        mixes: True if images with different labels are mixed.
    """

    is_base: ClassVar[bool] = True
    mixes: ClassVar[bool] = False


@dataclass(frozen=True)
class Crop(Augmentation):
    """Use a random part of the image.

    Attributes:
        min_side_share: smallest side of the part, as a share of the image's side.
    """

    min_side_share: Share = 0.7


@dataclass(frozen=True)
class RandomResizedCrop(Augmentation):
    """Use a part of random area and aspect ratio, resized to a square (Szegedy, arXiv:1409.4842).

    Attributes:
        min_area_share: smallest share of the area that is kept.
        max_area_share: largest share of the area that is kept.
        max_aspect: largest ratio of the longer to the shorter side of the part.
    """

    min_area_share: Share = 0.35
    max_area_share: Share = 1.0
    max_aspect: Annotated[float, Range(low=1, high=100)] = 4 / 3

    def _check(self) -> None:
        require(
            self.min_area_share <= self.max_area_share,
            "RandomResizedCrop.min_area_share must not be above max_area_share. Received "
            f"{self.min_area_share:g} and {self.max_area_share:g}.",
        )


@dataclass(frozen=True)
class MirrorLeftRight(Augmentation):
    """Exchange left and right, with probability 0.5."""


@dataclass(frozen=True)
class MirrorTopBottom(Augmentation):
    """Exchange top and bottom, with probability 0.5."""


@dataclass(frozen=True)
class Rotate(Augmentation):
    """Rotate about the centre; the corners become gray.

    Attributes:
        max_deg: largest angle in degrees, in both directions.
    """

    max_deg: Positive = 45.0


@dataclass(frozen=True)
class Blur(Augmentation):
    """Gaussian blur.

    Attributes:
        max_px: largest radius in pixels.
    """

    max_px: Positive = 1.5


@dataclass(frozen=True)
class BlackPixels(Augmentation):
    """Set single pixels to black.

    Attributes:
        max_share: largest share of the pixels.
    """

    max_share: Share = 0.1


@dataclass(frozen=True)
class Noise(Augmentation):
    """Add Gaussian noise.

    Attributes:
        max_share: largest standard deviation, as a share of the range 0..255.
    """

    max_share: Share = 0.05


@dataclass(frozen=True)
class ColourJitter(Augmentation):
    """Change brightness, contrast and saturation.

    Attributes:
        strength: each is multiplied by a factor between 1 - strength and 1 + strength.
    """

    strength: Share = 0.2


@dataclass(frozen=True)
class Grayscale(Augmentation):
    """Remove the colours.

    Attributes:
        probability: of an image to be changed.
    """

    probability: Share = 0.1


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Set a square of the image to black; it is cut off at the edges of the image.

    Attributes:
        side_share: side of the square, as a share of the image's side.
        probability: of an image to be changed.
    """

    side_share: Share = 0.4
    probability: Share = 1.0


@dataclass(frozen=True)
class ShiftScaleRotate(Augmentation):
    """Move, scale and rotate the image; pixels from outside of it are gray.

    Attributes:
        max_shift_share: largest shift, as a share of the image's side.
        max_scale_share: largest change of the scale.
        max_deg: largest angle in degrees, in both directions.
        probability: of an image to be changed.
    """

    max_shift_share: Below1 = 0.0625
    max_scale_share: Below1 = 0.1
    max_deg: NotNegative = 45.0
    probability: Share = 0.5


@dataclass(frozen=True)
class CutMix(Augmentation):
    """Replace a rectangle of the image by that of another one (Yun et al., arXiv:1905.04899).

    The loss is the mean of the losses for both labels, weighted by their shares of the area.

    Attributes:
        alpha: the share of the image follows the distribution Beta(alpha, alpha).
        probability: of an image to be mixed.
    """

    mixes: ClassVar[bool] = True
    alpha: Positive = 1.0
    probability: Share = 0.5


@dataclass(frozen=True)
class Mixup(Augmentation):
    """Replace the image by a weighted mean with another one (Zhang et al., arXiv:1710.09412).

    The loss is the mean of the losses for both labels, with the same weights.

    Attributes:
        alpha: the weight of the image follows the distribution Beta(alpha, alpha).
        probability: of an image to be mixed.
    """

    mixes: ClassVar[bool] = True
    alpha: Positive = 0.2
    probability: Share = 0.5


@dataclass(frozen=True)
class Input(Part):
    """Size and augmentation of the training images.

    Attributes:
        size_px: side of the square that an image is resized to, 32 to 4096 pixels.
        augment: random changes in training; their order does not matter.
    """

    size_px: SidePx = 224
    augment: tuple[Augmentation, ...] = ()

    def _check(self) -> None:
        names = [type(part).__name__ for part in self.augment]
        repeated = [name for name in names if names.count(name) > 1]
        require(not repeated, f"input.augment has {(repeated or [''])[0]} twice: remove one.")
        total = sum(part.probability for part in self.augment if isinstance(part, CutMix | Mixup))
        require(
            total <= 1,
            "CutMix and Mixup never mix the same image, so their probabilities must not add up to "
            f"more than 1. Received {total:g}.",
        )


# --- sampling


@dataclass(frozen=True)
class Shuffled(Part):
    """Batches of random images; each image once in an epoch.

    Attributes:
        batch_size: images in a batch.
    """

    batch_size: BatchSize = 64


@dataclass(frozen=True)
class Pairs(Part):
    """Batches of pairs (0, 1), (2, 3), ...; the images of every second pair are of one class.

    Attributes:
        batch_size: images in a batch; even, at least 4.
    """

    batch_size: BatchSize = 64

    def _check(self) -> None:
        require(
            self.batch_size >= 4 and self.batch_size % 2 == 0,
            f"Pairs.batch_size must be even and at least 4. Received {self.batch_size}.",
        )


@dataclass(frozen=True)
class PxK(Part):
    """Batches with the same number of images from each of several classes.

    Attributes:
        classes: classes in a batch, at least 2.
        images: images of each class, at least 2.
    """

    classes: GroupSize = 16
    images: GroupSize = 4

    @property
    def batch_size(self) -> int:
        """Number of images in a batch."""
        return self.classes * self.images


Sampling = Shuffled | Pairs | PxK
