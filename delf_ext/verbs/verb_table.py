"""The verbs: which flags each takes, and examples."""

from __future__ import annotations

from typing import NamedTuple

from absl import flags

from delf_ext.config import UsageError
from delf_ext.verbs.flags import FLAGS, GROUPS, ORIGINAL

DATA = ("data", "query_split")
TRUNK = ("pretrained_model", "resnet_type", "layout")
MODEL = (
    "run_dir",
    *TRUNK,
    "pooling",
    "image_size",
    "onnx_model",
    "runtime",
    "mixed_precision",
    "batch_size",
)
STORED = ("features", "store_features")
RERANKING = ("method", "time_budget", "query_copies")
DELF = (
    "local_model",
    "local_layer",
    "local_image_size",
    "local_scales",
    "max_features",
    "descriptor_dim",
)
GALLERY_SIDE = ("local_features", *DELF, "whitening", "descriptor_type", "overwrite")
PAIRS = ("local_rotations", "geometry_model", "min_inliers")
LOCAL = (*GALLERY_SIDE, *PAIRS, "order_by")
INFER = (*DATA, *MODEL, *STORED, *RERANKING, *LOCAL, "seed", "out")
TRAIN = (
    "recipe",
    "set",
    "from_run",
    *(flag.name for entries in ORIGINAL.values() for flag in entries),
)
TRAIN += tuple(flag.name for group in ("Run", "Reserved by NSML") for flag in GROUPS[group])


class Verb(NamedTuple):
    """What a verb does in one line, the flags it takes, and examples."""

    summary: str
    flags: tuple[str, ...]
    examples: tuple[str, ...]


VERBS: dict[str, Verb] = {
    "train": Verb(
        "train a recipe, or the original's network by its flags (the default verb)",
        # The platform trains and submits with one command line, so training takes and keeps the flags of infer.
        (*TRAIN, *(name for name in INFER if name not in TRAIN), "report"),
        (
            "mandoo --train_logits --train_sim --stop_gradient_sim",
            "mandoo --data=photos/ --pretrained_model=resnet_v1_50.ckpt --train_logits --train_sim --run_dir=runs/first",
            "mandoo --recipe=norm_softmax --set optimizer.lr=1e-3 --data=photos/ --run_dir=runs/second",
            "mandoo --run_dir=runs/first --resume",
        ),
    ),
    "evaluate": Verb(
        "mAP and Recall@k of a model",
        (*DATA, *MODEL, *STORED, *RERANKING, *LOCAL, "seed", "json", "report", "out"),
        (
            "mandoo evaluate --data=products.csv --run_dir=runs/first --json=first.json",
            "mandoo evaluate --data=products.csv --pretrained_model=resnet_v1_50.ckpt --pooling=gem",
        ),
    ),
    "compare": Verb(
        "several models side by side, with a paired test and a page of pictures",
        (*DATA, *MODEL, "runs", *STORED, *RERANKING, *LOCAL, "seed", "json", "report", "out"),
        (
            "mandoo compare --data=products.csv --runs=runs/first,runs/baseline --pretrained_model=resnet_v1_50.ckpt",
            'mandoo compare --data=products.csv --run_dir=runs/first --method="aqe:5@3;dba:10;k_reciprocal:20,6,0.3"',
        ),
    ),
    "infer": Verb(
        "the challenge's answer: every reference for every query, nearest first",
        INFER,
        (
            "mandoo infer --data=challenge/ --run_dir=runs/first --method=dba:10,aqe:5@3,k_reciprocal --time_budget=3000",
        ),
    ),
    "extract": Verb(
        "embeddings of a folder, or with --local_features its local features",
        ("data", "out", *MODEL, *GALLERY_SIDE, "shard", "seed"),
        ("mandoo extract --data=photos/ --run_dir=runs/first --out=embeddings",),
    ),
    "search": Verb(
        "the photographs most like yours",
        ("data", "image", "top_k", *MODEL, *STORED),
        ("mandoo search --data=photos/ --run_dir=runs/first --image=phone.jpg",),
    ),
    "rerank": Verb(
        "better rankings by local features or other re-rankers, before and after",
        (*DATA, *MODEL, *STORED, *RERANKING, *LOCAL, "seed", "report", "out"),
        (
            "mandoo rerank --data=products.csv --run_dir=runs/first --method=geometric:100 --out=reranked",
        ),
    ),
    "match": Verb(
        "two photographs and what local features find in common, as a picture",
        (
            "image",
            "candidate",
            "out",
            "run_dir",
            *TRUNK,
            "mixed_precision",
            "local_features",
            *DELF,
            "whitening",
            *PAIRS,
            "seed",
        ),
        (
            "mandoo match --image=phone.jpg --candidate=cover.jpg --local_features=sift --out=match.png",
        ),
    ),
    "whiten": Verb(
        "learn the PCA and whitening of DELF's local features",
        ("data", "out", "run_dir", *TRUNK, "mixed_precision", *DELF, "seed"),
        ("mandoo whiten --data=photos/ --run_dir=runs/attention",),
    ),
    "export": Verb(
        "local features in hloc's layout (HDF5)",
        ("local_store", "out"),
        ("mandoo export --local_store=reranked/local/delf/gallery --out=features.h5",),
    ),
    "recipes": Verb(
        "the systems that can be trained, or one of them as JSON",
        ("recipe", "set"),
        (
            "mandoo recipes",
            "mandoo recipes --recipe=mandoo_dual --set optimizer.lr=1e-3 > mine.json",
        ),
    ),
    "draw": Verb(
        "a drawn product data set; needs no download",
        ("out", "draw_classes", "seed"),
        ("mandoo draw --out=drawn",),
    ),
    "demo": Verb(
        "train, compare and verify on drawn products, in a few minutes",
        ("out", "seed"),
        ("mandoo demo",),
    ),
}


def require_own_flags(verb: str, values: flags.FlagValues) -> None:
    """Raise UsageError when a flag was given that the verb does not use."""
    given = [name for name in FLAGS if values[name].present]
    foreign = [name for name in given if name not in VERBS[verb].flags]
    if foreign:
        takers = [other for other in VERBS if foreign[0] in VERBS[other].flags]
        raise UsageError(
            f"{verb} does not use --{foreign[0]}; it is a flag of {', '.join(takers)}."
        )
