"""Define the recipe norm_softmax: softmax over cosines, layer norm, class-balanced batches.

Source: Zhai and Wu, "Classification is a Strong Baseline for Deep Metric Learning",
arXiv:1811.12649.
"""

from __future__ import annotations

from delf_ext.recipes import schema

RECIPE = schema.Recipe(
    name="norm_softmax",
    model=schema.Model(
        heads=(schema.Head("main", neck=(schema.LayerNorm(),), classifier=schema.Cosine()),)
    ),
    losses=(schema.LossTerm(schema.NormSoftmax()),),
    optimizer=schema.Adam(lr=1e-4, factors=(schema.RateFactor("classifier", 10.0),)),
    stages=(schema.Stage(30, schema.CosineDecay()),),
    input=schema.Input(224, (schema.Crop(), schema.MirrorLeftRight())),
    sampling=schema.PxK(classes=25, images=3),
    about=schema.About(
        summary=(
            "Softmax over cosines with temperature 0.05, on an average pool with layer norm; "
            "25 classes x 3 images in a batch."
        ),
        source=(
            "Zhai and Wu, arXiv:1811.12649 (temperature, layer norm and class-balanced batches; "
            "the optimizer is our choice)"
        ),
        command="mandoo --recipe=norm_softmax --pretrained_model=pre_trained/resnet_v1_50.ckpt",
        cost="30 epochs at 224 px; training prints the time of an epoch",
        expected=(
            "Grocery Store (queries: val, gallery: train), weights resnet_v1_50_pqf, seed 0, with "
            "--set stages.0.epochs=8 --set model.trunk.batch_norm=inference: "
            "mAP 0.561 [0.527, 0.592], R@1 0.713"
        ),
    ),
)
