"""Compute softmax cross-entropy of cosines with a margin on the angle of the true class."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from delf_ext.losses.class_balance import adaptive_margins, log_weights
from delf_ext.losses.loss import Loss, on_logits
from delf_ext.losses.softmax import cross_entropy
from delf_ext.recipes.schema import ArcFace

SMALLEST_SQUARE = 1e-7
"""Squared sine below which a sine has no gradient; that of a root is infinite at 0."""


def build_arcface(config: ArcFace, head: str, images_per_class: Sequence[int] = ()) -> Loss:
    """Build the ArcFace loss of a recipe.

    Args:
        config: the loss record.
        head: name of the head that the loss reads.
        images_per_class: training images of each class, by label; read for weights of classes and
            for margins that adapt to them.

    Returns:
        The loss.
    """
    weights = None
    margins_rad = None
    if config.class_weights or config.adaptive_power:
        assert len(images_per_class), "this ArcFace needs the images per class"
    if config.class_weights:
        weights = log_weights(images_per_class)
    if config.adaptive_power:
        margins_rad = adaptive_margins(
            images_per_class, config.adaptive_power, config.min_margin_rad, config.margin_rad
        )

    def function(logits: tf.Tensor, labels: tf.Tensor, config: ArcFace) -> tf.Tensor:
        margin_rad = config.margin_rad if margins_rad is None else tf.gather(margins_rad, labels)
        losses = arcface(logits, labels, config, margin_rad)
        return losses if weights is None else losses * tf.gather(weights, labels)

    return on_logits(function)(config, head)


def arcface(
    logits: tf.Tensor, labels: tf.Tensor, config: ArcFace, margin_rad: float | tf.Tensor
) -> tf.Tensor:
    """Compute the cross-entropy of s cos_z of each image, with cos(angle + margin) for its class.

    Source: Deng et al., arXiv:1801.07698, eq. 3; `with_margin` describes angles near pi.

    Args:
        logits: float32 [B, C], cosines between embeddings and class directions.
        labels: int [B].
        config: its scale is s; label_smoothing smooths the labels.
        margin_rad: of all images, or of each image [B], in radians.

    Returns:
        float32 [B].
    """
    own = with_margin(tf.gather(logits, labels, batch_dims=1), margin_rad)
    is_label = tf.one_hot(labels, tf.shape(logits)[1], on_value=True, off_value=False)
    changed = tf.where(is_label, own[:, None], logits)
    return cross_entropy(config.scale * changed, labels, config.label_smoothing)


def with_margin(cosine: tf.Tensor, margin_rad: float | tf.Tensor) -> tf.Tensor:
    """Return cos(angle + margin), and go on falling where angle + margin is above pi.

    There cos(angle + margin) would rise again: the worst images would have a small loss. It is
    replaced by cos(angle) + cos(margin) - 1, which also is -1 where the sum is pi. (InsightFace
    takes cos(angle) - margin sin(margin), which jumps at this place.)

    Args:
        cosine: float32 [B], cos(angle); rounding may take it out of -1..1.
        margin_rad: 0 to below pi, a number or [B].

    Returns:
        float32 [B]; its gradient is finite also for cosines of 1 and -1.
    """
    margin_rad = tf.convert_to_tensor(margin_rad, tf.float32)
    sine = tf.sqrt(tf.maximum(1 - tf.square(cosine), SMALLEST_SQUARE))
    near = cosine * tf.cos(margin_rad) - sine * tf.sin(margin_rad)
    far = cosine + tf.cos(margin_rad) - 1
    return tf.where(cosine > -tf.cos(margin_rad), near, far)
