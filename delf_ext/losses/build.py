"""Build the losses of a recipe. A new loss is one file and one line here."""

from __future__ import annotations

from functools import singledispatch

from delf_ext.losses.hardest_negatives import hardest_negatives
from delf_ext.losses.loss import Loss, on_head, on_logits
from delf_ext.losses.norm_softmax import norm_softmax
from delf_ext.losses.pairs import pair_similarity, pair_squared_error
from delf_ext.losses.softmax import softmax_cross_entropy
from delf_ext.losses.triplet import build_triplet
from delf_ext.recipes import schema
from delf_ext.recipes.part import NotBuilt, Part


@singledispatch
def build_loss(config: Part, head: str) -> Loss:
    """Build a loss of a recipe.

    Args:
        config: a loss record.
        head: name of the head that the loss reads.

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
