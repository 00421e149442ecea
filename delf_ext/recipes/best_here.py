"""Define the recipe best_here: the one to start with, about half an hour on two cores.

Only the last two blocks are trained, on images that grow from stage to stage. Small images are
cheap, and the last epochs at full size adapt the network to the size that is searched. The
embedding joins three views of one network: the means of block3 and block4, and a generalized mean
of block4. LDA, fitted on the training images, turns them into the final embedding.
"""

from __future__ import annotations

from delf_ext.recipes import schema

RECIPE = schema.Recipe(
    name="best_here",
    model=schema.Model(
        trunk=schema.Trunk(
            batch_norm="inference", frozen=("trunk/stem", "trunk/block1", "trunk/block2")
        ),
        heads=(
            schema.Head("main", classifier=schema.Cosine()),
            schema.Head("gem", schema.Gem()),
            schema.Head("block3", after="block3"),
        ),
        embedding=("main", "gem", "block3"),
    ),
    losses=(schema.LossTerm(schema.NormSoftmax()),),
    optimizer=schema.AdamW(lr=1e-3, factors=(schema.RateFactor("trunk", 0.1),)),
    stages=(
        schema.Stage(7, schema.CosineDecay(), size_px=160),
        schema.Stage(5, None, size_px=224),
        schema.Stage(1, None),
    ),
    input=schema.Input(
        288,
        (
            schema.RandomResizedCrop(),
            schema.MirrorLeftRight(),
            schema.ColourJitter(0.3),
            schema.CutMix(),
        ),
    ),
    sampling=schema.Shuffled(32),
    validation=None,
    reduction=schema.Lda(),
    test_time=schema.TestTime(scales=(1.25,), join="concatenation"),
    about=schema.About(
        summary=(
            "The recipe to start with: cosine softmax and CutMix on growing images, an embedding "
            "of two blocks, and LDA."
        ),
        source="this project; its parts are named in docs/training.md",
        command="mandoo --recipe=best_here --pretrained_model=pre_trained/resnet_v1_50.ckpt",
        cost=(
            "13 epochs of 160 to 288 px; 57 minutes of CPU time for 2,640 images on a processor "
            "with AVX512_BF16"
        ),
        expected=(
            "Grocery Store (queries: val, gallery: train), weights resnet_v1_50_pqf, seed 0: "
            "mAP 0.916 [0.888, 0.943], R@1 0.889 [0.851, 0.922]"
        ),
    ),
)
