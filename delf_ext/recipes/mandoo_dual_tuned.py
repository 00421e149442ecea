"""Define the recipe mandoo_dual_tuned: the heads and losses of the original, trained as best_here.

The schedule, the frozen blocks, the growing images, the further views in the embedding and LDA are
those of best_here. CutMix is left out: the pair loss compares images, so they cannot be mixed.
"""

from __future__ import annotations

from dataclasses import replace

from delf_ext.recipes import best_here, mandoo_dual, schema

_BEST = best_here.RECIPE
_LOGITS, _SIMILARITY = mandoo_dual.RECIPE.losses

RECIPE = replace(
    _BEST,
    name="mandoo_dual_tuned",
    model=replace(
        _BEST.model,
        heads=(*mandoo_dual.RECIPE.model.heads, *_BEST.model.heads[1:]),
        embedding=("logits", "similarity", "gem", "block3"),
    ),
    losses=(
        replace(_LOGITS, loss=schema.SoftmaxCrossEntropy(label_smoothing=0.1, squared_error=True)),
        _SIMILARITY,
    ),
    input=replace(
        _BEST.input,
        augment=tuple(part for part in _BEST.input.augment if part != schema.CutMix()),
    ),
    sampling=schema.Pairs(32),
    about=schema.About(
        summary="The heads of mandoo_dual with the training, the views and the LDA of best_here.",
        source="NAVER AI Hackathon 2018, image retrieval challenge; trained as best_here",
        command=(
            "mandoo --recipe=mandoo_dual_tuned --pretrained_model=pre_trained/resnet_v1_50.ckpt"
        ),
        cost=(
            "13 epochs of 160 to 288 px; 58 minutes of CPU time for 2,640 images on a processor "
            "with AVX512_BF16"
        ),
        expected=(
            "Grocery Store (queries: val, gallery: train), weights resnet_v1_50_pqf, seed 0: "
            "mAP 0.906 [0.876, 0.935], R@1 0.875 [0.835, 0.912]"
        ),
    ),
)
