"""What a run was asked to do: frozen dataclasses that refuse unknown keys and bad values, and have a digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

Section = TypeVar("Section")


class UsageError(ValueError):
    """Flags or settings that do not fit together, as opposed to data that cannot be used."""


def strict(kind: type[Section], values: dict[str, Any]) -> Section:
    """A dataclass from plain data, sections within sections.

    Raises: ValueError naming unknown keys and the known ones, or a section that is none.
    """
    types = get_type_hints(kind)
    if not isinstance(values, dict):
        raise ValueError(f"{kind.__name__} must be a mapping with some of: {', '.join(sorted(types))}. Received {values!r}.")
    unknown = sorted(set(values) - set(types))
    if unknown:
        raise ValueError(f"unknown key {', '.join(unknown)} in {kind.__name__}. Known: {', '.join(sorted(types))}.")
    nested = {
        name: strict(types[name], value) if dataclasses.is_dataclass(types[name]) else value for name, value in values.items()
    }
    return kind(**nested)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise UsageError(message)


@dataclass(frozen=True)
class ModelConfig:
    """The dual-head network. `endpoint` names backbone and end point; `layout` says where a ResNet v1 has its strides."""

    endpoint: str = "resnet_v1_50/block4"
    layout: str = "slim"
    image_size: int = 224
    num_classes: int = 0
    similarity_head: bool = True
    stop_gradient_sim: bool = False
    skipcon_attn: bool = False
    logit_concat_sim: bool = False
    weight_decay: float = 0.0
    freeze_batch_norm: bool = False
    batch_norm_decay: float = 0.997

    def __post_init__(self) -> None:
        _require(
            0 <= self.batch_norm_decay < 1,
            f"--batch_norm_decay must be at least 0 and below 1. Received {self.batch_norm_decay}.",
        )
        _require(self.image_size >= 32, f"--image_size must be at least 32 pixels. Received {self.image_size}.")


@dataclass(frozen=True)
class LossConfig:
    """Which losses train the network, and their weights in the sum."""

    train_logits: bool = False
    train_sim: bool = False
    train_sim_dist: bool = False
    train_max_neg: bool = False
    train_triplet: bool = False
    train_max_neg_topk: int = 5
    margin: float = 0.3
    logits_weight: float = 1.0
    sim_weight: float = 1.0
    sim_dist_weight: float = 1.0
    max_neg_weight: float = 1.0
    triplet_weight: float = 1.0

    def __post_init__(self) -> None:
        _require(self.train_max_neg_topk >= 1, f"--train_max_neg_topk must be at least 1. Received {self.train_max_neg_topk}.")
        for name in self.names:
            _require(self.weight(name) >= 0, f"--{name}_weight must not be negative. Received {self.weight(name)}.")
        _require(self.margin > 0, f"--margin must be above 0. Received {self.margin}.")

    @property
    def trains_similarity(self) -> bool:
        return self.train_sim or self.train_sim_dist or self.train_max_neg or self.train_triplet

    @property
    def names(self) -> tuple[str, ...]:
        """The losses in use, by the flag's name without `train_`."""
        return tuple(name for name in ("logits", "sim", "sim_dist", "max_neg", "triplet") if getattr(self, f"train_{name}"))

    def weight(self, name: str) -> float:
        return float(getattr(self, f"{name}_weight"))


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast and how often. Steps count batches."""

    epochs: int = 200
    batch_size: int = 64
    images_per_class: int = 0
    lr: float = 1e-4
    classifier_lr_factor: float = 10.0
    lr_schedule: str = "constant"
    freeze_backbone: bool = False
    eval_every_steps: int = 150
    checkpoint_every_steps: int = 50
    augmentation: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "augmentation", tuple(self.augmentation))
        for name in ("epochs", "batch_size", "eval_every_steps", "checkpoint_every_steps"):
            _require(getattr(self, name) >= 1, f"--{name} must be at least 1. Received {getattr(self, name)}.")
        for name in ("lr", "classifier_lr_factor"):
            _require(getattr(self, name) > 0, f"--{name} must be above 0. Received {getattr(self, name)}.")
        _require(
            self.lr_schedule in ("constant", "cosine"), f"--lr_schedule is constant or cosine. Received {self.lr_schedule!r}."
        )


@dataclass(frozen=True)
class DelfConfig:
    """DELF local features: which cells of which pyramid, and how many of them.

    layer: the end point of the trunk. longer_side_px: of the photograph at scale 1. rotations_deg: turns of the photograph,
    counter-clockwise; each keeps max_features of its own. nms_iou: overlap from which the weaker of two cells is dropped.
    min_texture: standard deviation of gray, of 255, in the middle of a cell: a plain background looks alike everywhere, and
    knows by the padding how far the border is.
    """

    layer: str = "block3"
    longer_side_px: int = 640
    scales: tuple[float, ...] = (0.3536, 0.5, 0.7071, 1.0, 1.4142)
    rotations_deg: tuple[float, ...] = (0.0,)
    max_features: int = 1000
    nms_iou: float = 1.0
    min_texture: float = 3.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", tuple(self.scales))
        object.__setattr__(self, "rotations_deg", tuple(self.rotations_deg))
        _require(self.max_features >= 1, f"--max_features must be at least 1. Received {self.max_features}.")
        _require(self.longer_side_px >= 32, f"--local_image_size must be at least 32 pixels. Received {self.longer_side_px}.")
        _require(
            bool(self.scales) and all(0 < scale <= 8 for scale in self.scales),
            f"--local_scales must be above 0 and at most 8, one or more. Received {self.scales}.",
        )
        _require(bool(self.rotations_deg), "--local_rotations must name at least one turn, such as 0.")
        _require(0 < self.nms_iou <= 1, f"nms_iou must be above 0, at most 1. Received {self.nms_iou}.")


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes; written to config.json of its directory.

    first_images: under --debug, how many of the training images are used; 0: all.
    """

    system: str = "dual_head"
    data: str = ""
    pretrained_model: str = ""
    dev_percent: float = 0.0
    dev_split: str = "block"
    dev_querynum: int = 300
    dev_referencenum: int = 20
    first_images: int = 0
    seed: int = 0
    deterministic: bool = False
    mixed_precision: str = "auto"
    class_names: tuple[str, ...] = ()
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))
        _require(
            0.0 <= self.dev_percent < 1.0, f"--dev_percent is a share of the classes, 0 <= x < 1. Received {self.dev_percent}."
        )
        _require(
            bool(self.loss.names),
            "nothing to train: pass at least one of --train_logits --train_sim --train_sim_dist --train_max_neg --train_triplet.",
        )
        _require(
            self.loss.train_logits or not self.model.stop_gradient_sim or self.training.freeze_backbone,
            "--stop_gradient_sim keeps the similarity branch from teaching the trunk, and nothing else would: "
            "add --train_logits, or --freeze_backbone to keep the trunk as it is.",
        )
        if self.loss.trains_similarity:
            _require(
                self.training.batch_size >= 4 and self.training.batch_size % 2 == 0,
                f"--train_{self.loss.names[-1]} compares images of a batch: --batch_size must be even and at least 4. "
                f"Received {self.training.batch_size}.",
            )

    def to_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        return strict(cls, values)

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]
