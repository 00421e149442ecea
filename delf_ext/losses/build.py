"""Build the losses of a recipe. A new loss is one file and one line here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

from delf_ext.losses.arcface import build_arcface
from delf_ext.losses.contrastive import contrastive
from delf_ext.losses.cosface import cosface
from delf_ext.losses.hardest_negatives import hardest_negatives
from delf_ext.losses.loss import Loss, on_head, on_logits
from delf_ext.losses.multi_similarity import multi_similarity
from delf_ext.losses.norm_softmax import norm_softmax
from delf_ext.losses.pairs import pair_similarity, pair_squared_error
from delf_ext.losses.proxy_anchor import proxy_anchor
from delf_ext.losses.softmax import softmax_cross_entropy
from delf_ext.losses.supervised_contrastive import supervised_contrastive
from delf_ext.losses.triplet import build_triplet
from delf_ext.recipes import schema
from delf_ext.recipes.part import NotBuilt, Part


@singledispatch
def build_loss(config: Part, head: str, images_per_class: Sequence[int] = ()) -> Loss:
    """Build a loss of a recipe.

    Args:
        config: a loss record.
        head: name of the head that the loss reads.
        images_per_class: training images of each class, by label; () for losses that do not weigh
            classes.

    Returns:
        The loss.

    Raises:
        NotBuilt: the loss is not built yet.
    """
    raise NotBuilt(config, build_loss)


build_loss.register(schema.SoftmaxCrossEntropy, on_logits(softmax_cross_entropy))
build_loss.register(schema.PairSimilarity, on_head(pair_similarity))
build_loss.register(schema.PairSquaredError, on_head(pair_squared_error))
build_loss.register(schema.HardestNegatives, on_head(hardest_negatives))
build_loss.register(schema.Triplet, build_triplet)
build_loss.register(schema.NormSoftmax, on_logits(norm_softmax))
build_loss.register(schema.ArcFace, build_arcface)
build_loss.register(schema.CosFace, on_logits(cosface))
build_loss.register(schema.Contrastive, on_head(contrastive))
build_loss.register(schema.SupervisedContrastive, on_head(supervised_contrastive))
build_loss.register(schema.MultiSimilarity, on_head(multi_similarity))
build_loss.register(schema.ProxyAnchor, on_head(proxy_anchor))
