"""Define the recipes lotte_winner and lotte_winner_here.

The winner of the Lotte product-classification competition solved it as retrieval: two networks are
trained on five folds each, the features of all ten are concatenated, and the nearest training
photographs decide about the label. `lotte_winner` has the winner's own networks and settings.
`lotte_winner_here` is the same on two networks whose weights are easy to get.
"""

from __future__ import annotations

from delf_ext.recipes import schema

FOLDS = 5
EFFICIENTNET_B1 = schema.Trunk(
    "efficientnetv1b1", "zoo", "", weights="pre_trained/efficientnetv1-b1-noisy_student.h5"
)
NFNET_F0 = schema.Trunk("nfnetf0", "zoo", "", weights="pre_trained/nfnetf0_imagenet.h5")
LITE2 = schema.Trunk("efficientnet_lite2", "lite", "", weights="lite2")
RESNET_50 = schema.Trunk("resnet_v1_50", weights="pre_trained/resnet_v1_50.ckpt")


def member(name: str, trunk: schema.Trunk, size_px: int) -> schema.Member:
    """Return one network of the winner's ensemble, to be trained on each fold.

    Args:
        name: of the member.
        trunk: its network.
        size_px: side of the images.

    Returns:
        The member, with all other settings of the winner.
    """
    head = schema.Head(
        "main",
        schema.Gem(3.0, trainable=True),
        (schema.Dense(512, "prelu", "batch"),),
        schema.Cosine(),
    )
    recipe = schema.Recipe(
        name=name,
        model=schema.Model(trunk, (head,)),
        losses=(schema.LossTerm(schema.ArcFace(45.0, 0.4, class_weights="log")),),
        optimizer=schema.Sgd(2e-3, nesterov=True, weight_decay=1e-4),
        stages=(schema.Stage(30, schema.CosineDecay(warmup_epochs=1)),),
        input=schema.Input(
            size_px, (schema.MirrorLeftRight(), schema.ShiftScaleRotate(), schema.Cutout())
        ),
        sampling=schema.Shuffled(32),
        # Measured after each epoch.
        validation=schema.StratifiedFolds(0, FOLDS),
        task=schema.Classification("gap"),
        test_time=schema.TestTime(("mirror",)),
    )
    return schema.Member(name, recipe, folds=FOLDS)


RECIPE = schema.EnsembleRecipe(
    "lotte_winner",
    (member("conf", EFFICIENTNET_B1, 448), member("conf_nf0", NFNET_F0, 448)),
    label=schema.LabelVote(5, 9.0, 10.0),
    about=schema.About(
        summary=(
            "Winner of the Lotte product classification: EfficientNet-B1 and NFNet-F0 on five "
            "folds, ArcFace with GeM, labels by a vote of the nearest training photographs."
        ),
        source="winner of the Lotte product-classification competition, its published code",
        command="mandoo --recipe=lotte_winner --data=data/ --run_dir=model/lotte",
        cost="ten trainings of 30 epochs at 448 px: made for GPUs; not run here",
        expected="not measured here: the competition's data and these weights are not at hand",
    ),
)
HERE = schema.EnsembleRecipe(
    "lotte_winner_here",
    (member("lite2", LITE2, 224), member("resnet", RESNET_50, 224)),
    label=RECIPE.label,
    about=schema.About(
        summary="The Lotte winner's system on EfficientNet-Lite2 and ResNet-50, 224 px.",
        source="as lotte_winner; weights of the extra [lite], and of a ResNet-50",
        command="mandoo --recipe=lotte_winner_here --data=data/ --run_dir=model/here",
        cost=(
            "ten trainings of 30 epochs at 224 px; training prints the time of an epoch. Not run "
            "as a whole here"
        ),
        expected="not measured",
    ),
)
