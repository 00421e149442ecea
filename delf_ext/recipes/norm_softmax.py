"""Classification is a strong baseline for deep metric learning: cosine softmax, layer norm, class-balanced batches."""

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
        summary="Softmax over cosines at temperature .05 on a layer-normalized average pool; 25 classes x 3 images a batch.",
        source="Zhai and Wu 2019, arXiv:1811.12649 (temperature, layer norm, class-balanced batches; optimizer ours)",
        command="mandoo --recipe=norm_softmax --pretrained_model=resnet_v1_50.ckpt",
        cost="30 epochs at 224 px; the run prints what an epoch takes here",
        expected=(
            "Grocery Store, val <- train, weights resnet_v1_50_pqf, seed 0, with --set stages.0.epochs=8 "
            "--set model.trunk.batch_norm=inference: mAP .561 [.527, .592], R@1 .713"
        ),
    ),
)
