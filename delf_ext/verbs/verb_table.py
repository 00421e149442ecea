"""Define the verbs of the command line: group, summary, flags, examples."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from absl import flags

from delf_ext.config import UsageError
from delf_ext.recipes.original_flags import FLAG_GROUPS
from delf_ext.verbs.flag_table import FLAGS, GROUPS

DATA = ("data", "data_layout", "query_split", "merge_labels", "max_pixels")
TRUNK = ("pretrained_model", "resnet_type", "layout")
MODEL = (
    *("run_dir", *TRUNK, "pooling", "image_size", "onnx_model"),
    *("runtime", "mixed_precision", "batch_size"),
)
STORED = ("features", "store_features")
COPIES = ("copies", "concatenate_sizes")
RERANKING = ("method", "time_budget", *COPIES, "query_copies")
DELF = (
    *("local_model", "local_layer", "local_image_size", "local_scales"),
    *("max_features", "descriptor_dim"),
)
GALLERY_SIDE = ("local_features", *DELF, "whitening", "descriptor_type", "overwrite")
PAIRS = ("local_rotations", "geometry_model", "min_inliers")
LOCAL = (*GALLERY_SIDE, *PAIRS, "order_by")
EVALUATION = (
    *(*DATA, *MODEL, *STORED, *RERANKING, *LOCAL),
    *("duplicates", "allow_trained_photographs", "seed", "report", "out"),
)
INFER = (*DATA, *MODEL, *STORED, *RERANKING, *LOCAL, "seed", "out")
# A submission opens the checkpoint of its session, and the platform takes the answer.
NOT_IN_SUBMISSION = ("data_layout", "pooling", "onnx_model", *STORED, "out")
SUBMISSION = tuple(name for name in INFER if name not in NOT_IN_SUBMISSION)
NSML_GROUP = "Set by NSML (do not pass these yourself)"
TRAINING_GROUPS = ("Recipe", *FLAG_GROUPS, "Run", NSML_GROUP)
TRAIN = (
    *(flag.name for group in TRAINING_GROUPS for flag in GROUPS[group]),
    *(*DATA, "run_dir", "pretrained_model", "mixed_precision", "seed", "report"),
)

EMBEDDING_HELP = {
    "batch_size": "images per call of the model (default: 32)",
    "image_size": "for --pretrained_model or without a model: side of the square input, in pixels "
    "(default: 224; lite1 240, lite2 260)",
}
# `python -m pretrained.fetch resnet_v1_50` downloads it to this path.
PRETRAINED = "--pretrained_model=pre_trained/resnet_v1_50.ckpt"
RUN_OR_CHECKPOINT = "run directory of a trained model; or pass --pretrained_model"
FOLDER_HELP = {
    **EMBEDDING_HELP,
    "data": "images: a folder with or without sub-folders, a zip archive, or any form of data that "
    "`evaluate` takes; required",
}


class Verb(NamedTuple):
    """One verb of the command line.

    Attributes:
        group: the heading of `mandoo --help` that lists the verb.
        summary: one line that says what the verb does.
        flags: names of the flags that it accepts.
        examples: complete command lines.
        help: help of a flag, if it has another meaning or default here than in `FLAGS`.
        groups: heading of a flag in the help of the verb, if another than in `GROUPS`.
    """

    group: str
    summary: str
    flags: tuple[str, ...]
    examples: tuple[str, ...]
    help: Mapping[str, str] = MappingProxyType({})
    groups: Mapping[str, str] = MappingProxyType({})


VERBS: dict[str, Verb] = {
    "train": Verb(
        "Train",
        "train a recipe, or the 2018 original by its flags (used if no verb is given)",
        # NSML trains and submits with one command line, so train accepts the flags of a submission.
        (*TRAIN, *(name for name in SUBMISSION if name not in TRAIN)),
        (
            "mandoo --train_logits --train_sim --stop_gradient_sim",
            "mandoo --recipe=norm_softmax --set optimizer.lr=1e-3 --data=photos/ --run_dir=runs/a",
            "mandoo --resume --run_dir=runs/a",
        ),
        {
            "run_dir": "new directory for the run (default: runs/ and the time)",
            "batch_size": "images per training step (default: 64)",
            "pretrained_model": "what the trunk starts from: lite0, lite1 or lite2 (extra `lite`), "
            "or a checkpoint, see docs/weights.md (default: random weights)",
            "runtime": "library that computes embeddings; openvino is faster, openvino-int8 is "
            "fastest and calibrates on --data; auto: TensorFlow (one of: auto, tensorflow, "
            "openvino, openvino-int8; default: auto)",
        },
    ),
    "evaluate": Verb(
        "Measure",
        "measure mAP and Recall@k of a model, with 95 % intervals",
        (*EVALUATION, "json"),
        (
            "mandoo evaluate --data=products.csv",
            "mandoo evaluate --data=products.csv --run_dir=runs/first --json=first.json",
            "mandoo evaluate --data=products.csv --run_dir=runs/first --method=aqe:5,k_reciprocal",
        ),
        {**EMBEDDING_HELP, "out": "folder for local features (default: local/ in --run_dir)"},
    ),
    "compare": Verb(
        "Measure",
        "compare models or re-ranking methods on the same queries, with a paired test",
        (*EVALUATION, "runs", "json"),
        (
            "mandoo compare --data=products.csv --runs=runs/first,runs/second",
            'mandoo compare --data=products.csv --run_dir=runs/first --method="aqe:5;dba:10,aqe:5"',
        ),
        {
            **EMBEDDING_HELP,
            "method": "re-ranking methods to compare, separated by semicolons; each is a list of "
            "steps, as for `rerank` (default: no re-ranking)",
            "out": "folder for the page and for local features (default: report)",
        },
    ),
    "study": Verb(
        "Measure",
        "rank untrained trunks on your images, by mAP, speed and size",
        (
            *("trunks", *DATA, *TRUNK, "poolings", "image_sizes"),
            *("runtime", "mixed_precision", "batch_size", "seed", "out", "json"),
        ),
        (
            "mandoo study --trunks --data=photos/",
            "mandoo study --trunks --data=photos/ --poolings=avg,gem --image_sizes=224",
        ),
        {
            "batch_size": EMBEDDING_HELP["batch_size"],
            "trunks": "rank lite0, lite1 and lite2 of the extra `lite`, and --pretrained_model, "
            "each without training; required",
            "data": "labelled images, in any form that `evaluate` takes; required",
            "pretrained_model": "TensorFlow checkpoint (V1 or V2) to rank too, or several, "
            "separated by commas",
            "runtime": "library that computes embeddings; openvino is faster, openvino-int8 is "
            "fastest and calibrates on the images that are searched in; auto: OpenVINO for lite0 "
            "to lite2 if it is installed, TensorFlow for checkpoints (one of: auto, tensorflow, "
            "openvino, openvino-int8; default: auto)",
            "query_split": "measure on the queries and the gallery of the data, of a Grocery Store "
            "tree or CSV file those of this split (one of: val, test; default: a dev split of the "
            "training images)",
            "out": "folder for the rows and a picture; a second call measures only what is new "
            "(default: the rows are kept in the cache folder)",
        },
    ),
    "infer": Verb(
        "NSML",
        "write the answer of the challenge: all references for each query, best first",
        INFER,
        (
            "mandoo infer --data=challenge/ --run_dir=runs/first --out=answer.json",
            "mandoo infer --data=challenge/ --run_dir=runs/first --method=aqe:5 --time_budget=3000",
        ),
        {
            **EMBEDDING_HELP,
            "out": "JSON file for the answer (default: answer.json in --run_dir, else here); the "
            "same answer as a Python literal is in the .txt file beside it",
        },
    ),
    "search": Verb(
        "Use",
        "find the images in a folder that are most similar to your photo",
        (
            *("data", "data_layout", "max_pixels", "image", "top_k"),
            *(*MODEL, *STORED, *COPIES, "query_copies"),
        ),
        (
            "mandoo search --data=photos/ --image=phone.jpg",
            "mandoo search --data=photos/ --run_dir=runs/first --image=phone.jpg",
            f"mandoo search --data=photos/ {PRETRAINED} --image=phone.jpg",
        ),
        {**FOLDER_HELP, "image": "your photo, or a folder of photos; required"},
    ),
    "classify": Verb(
        "Use",
        "give your photos the label of the labelled ones that they resemble",
        (
            *(*DATA, "image", *MODEL, "runs", *STORED, "method", "neighbours", "power"),
            *("temperature", "choose_on", "like", "precision", "unknown_below", "picture"),
            *("duplicates", "allow_trained_photographs", "seed", "out", "json"),
        ),
        (
            "mandoo classify --data=labelled/ --image=new/ --out=labels.csv",
            "mandoo classify --data=labelled/ --image=new/ --precision=.95 --out=labels.csv",
            "mandoo classify --data=products.csv --run_dir=runs/first --json=labels.json",
        ),
        {
            **EMBEDDING_HELP,
            "data": FLAGS["data"].help.split(" (default")[0] + "; its gallery, else its training "
            "images, need labels; required",
            "image": "photos to label: a folder, a zip archive or one file (default: the queries "
            "of --data, and if they have labels, how many labels are right)",
            "method": "how labels are given. vote: of the nearest photographs; lotte: a vote that "
            "also weighs the logits; centres: nearest class mean; softmax: of the run's "
            "classifier; product: of the probabilities of vote, centres and softmax (default: "
            "chosen)",
            "runs": "several run directories, separated by commas; embeddings are concatenated, "
            "class probabilities averaged",
            "out": "CSV file for the labels: path, label, probability, further classes",
            "json": "also write figures, labels and settings to this JSON file",
        },
        {"method": "Labels"},
    ),
    "extract": Verb(
        "Use",
        "write the embeddings, or the local features, of a folder of images",
        (
            *("data", "data_layout", "max_pixels", "out"),
            *(*MODEL, *COPIES, *GALLERY_SIDE, "shard", "seed"),
        ),
        (
            "mandoo extract --data=photos/ --out=embeddings",
            "mandoo extract --data=photos/ --run_dir=runs/first --out=embeddings --shard=1/2",
            "mandoo extract --data=photos/ --local_features=sift --out=features",
        ),
        {
            **FOLDER_HELP,
            "out": "folder for the result; required",
            "local_features": "write local features of this kind instead of embeddings "
            "(one of: delf, sift, both)",
        },
    ),
    "rerank": Verb(
        "Use",
        "improve the rankings of a model, and show the figures before and after",
        EVALUATION,
        (
            "mandoo rerank --data=products.csv --run_dir=runs/first --out=verified",
            "mandoo rerank --data=products.csv --run_dir=runs/first --method=dba,aqe:5 --out=dba",
        ),
        {
            **EMBEDDING_HELP,
            "method": FLAGS["method"].help.replace("the steps of the recipe", "geometric:100"),
            "out": "folder for ranking, figures, page and local features; required",
        },
    ),
    "adapt": Verb(
        "Train",
        "fit a head on the embeddings of your labelled photographs, in seconds",
        (
            *(*DATA, *MODEL, *STORED),
            *("runs", "for", *COPIES, "out", "seed"),
        ),
        (
            "mandoo adapt --data=photos/ --for=seen_classes --out=runs/head",
            "mandoo adapt --data=photos/ --run_dir=runs/first --for=unseen_classes --out=runs/head",
            "mandoo adapt --data=photos/ --runs=runs/a,runs/b --for=seen_classes --copies=mirror "
            "--out=ab",
        ),
        {
            **EMBEDDING_HELP,
            "data": FLAGS["data"].help.split(" (default")[0] + "; its training images, or all "
            "images if it has no queries, need labels; required",
            "out": "new run directory for the model with its head; required",
            "runs": "several run directories, separated by commas; their embeddings are "
            "concatenated",
            "copies": f"{FLAGS['copies'].help.removesuffix(')')}; they are kept in the run, for "
            "each later search)",
        },
    ),
    "match": Verb(
        "Use",
        "draw the matching local features of two images",
        (
            *(
                "image",
                "candidate",
                "max_pixels",
                "out",
                "overwrite",
                "run_dir",
                *TRUNK,
                "mixed_precision",
            ),
            *("local_features", *DELF, "whitening", *PAIRS, "seed"),
        ),
        (
            "mandoo match --image=a.jpg --candidate=b.jpg --out=match.png",
            "mandoo match --image=a.jpg --candidate=b.jpg --run_dir=runs/attention --out=match.png",
        ),
        {
            "image": "the first image; required",
            "candidate": "the second image; required",
            "out": "PNG file for the picture; required",
            "run_dir": RUN_OR_CHECKPOINT,
            "whitening": "DELF: file written by `whiten` (default: the file in the run; without "
            "one, run `mandoo whiten` first)",
        },
    ),
    "whiten": Verb(
        "Train",
        "learn the PCA and whitening of DELF descriptors",
        (
            "data",
            "data_layout",
            "max_pixels",
            "out",
            "overwrite",
            "run_dir",
            *TRUNK,
            "mixed_precision",
            *DELF,
            "seed",
        ),
        (
            "mandoo whiten --data=photos/ --run_dir=runs/attention",
            f"mandoo whiten --data=photos/ {PRETRAINED} --out=whitening.npz",
        ),
        {
            **FOLDER_HELP,
            "run_dir": RUN_OR_CHECKPOINT,
            "out": "file for the result (default: whitening.npz in --local_model or --run_dir)",
        },
    ),
    "export": Verb(
        "Use",
        "write stored local features as an HDF5 file for hloc",
        ("local_store", "out", "overwrite"),
        (
            "mandoo export --local_store=features/delf --out=features.h5",
            "mandoo export --local_store=verified/local/delf/gallery --out=gallery.h5",
        ),
        {
            "local_store": "folder of local features, written by `extract` or `rerank`; required",
            "out": "HDF5 file for the result; required",
        },
    ),
    "recipes": Verb(
        "Train",
        "list the recipes, or print one of them as JSON",
        ("recipe", "set"),
        (
            "mandoo recipes",
            "mandoo recipes --recipe=mandoo_dual",
            "mandoo recipes --recipe=mandoo_dual --set optimizer.lr=1e-3 > mine.json",
        ),
        {"recipe": "name of the recipe to print, or a JSON file (default: list all recipes)"},
    ),
    "draw": Verb(
        "Train",
        "draw a data set of products to try things out; needs no download",
        ("out", "draw_classes", "draw_layout", "draw_shift", "draw_size", "seed"),
        (
            "mandoo draw --out=drawn",
            "mandoo draw --out=small --draw_classes=40 --seed=1",
            "mandoo draw --out=lotte --draw_layout=lotte --draw_classes=20 --draw_size=96",
        ),
        {"out": "folder for the data set (default: a folder in the cache)"},
    ),
    "demo": Verb(
        "Train",
        "train, compare and verify on drawn products, in a few minutes",
        ("out", "seed"),
        ("mandoo demo", "mandoo demo --out=demo1 --seed=1"),
        {"out": "folder for all results; a second call continues there (default: .demo)"},
    ),
}


OUT_FILES = ("infer", "match", "whiten", "export", "classify")
"""Verbs whose --out is a file; that of the others is a folder."""
DEFAULT_OUT = {"compare": "report", "demo": ".demo", "infer": "answer.json"}
"""Verb -> what it writes to if --out is missing."""


AFTER_STOP = {
    "extract": "The finished parts are kept: the same command continues.",
    "demo": "The same command continues.",
    "draw": "The same command draws the data set again.",
    "infer": "If --out exists, it holds the answer before re-ranking. Start the command again.",
    "study": "The finished rows and embeddings are kept: the same command continues.",
    "rerank": "If --out holds a ranking, it is the one before re-ranking. Start the command again.",
}
"""Verb -> what Ctrl-C leaves and how to continue."""


def how_to_continue(verb: str, values: flags.FlagValues) -> str:
    """Return a sentence that says how to continue a verb that Ctrl-C stopped.

    Args:
        verb: key of `VERBS`.
        values: the flags, after parsing.
    """
    if verb == "train":
        run_dir = values.run_dir or "RUN"
        hint = "" if values.run_dir else " (RUN: the newest folder in runs/)"
        return f"To continue: mandoo --resume --run_dir={shlex.quote(run_dir)}{hint}."
    stores = "store_features" in VERBS[verb].flags and values.store_features
    if stores and verb not in AFTER_STOP:
        return "The embeddings so far are stored: the same command continues."
    return AFTER_STOP.get(verb, "Nothing was written. Start the command again.")


def require_own_flags(verb: str, values: flags.FlagValues) -> None:
    """Raise UsageError if a flag was passed that the verb does not use.

    Args:
        verb: key of `VERBS`.
        values: the flags, after parsing.

    Raises:
        UsageError: naming the flag and the verbs that use it.
    """
    passed = [name for name in FLAGS if values[name].present]
    foreign = [name for name in passed if name not in VERBS[verb].flags]
    if foreign:
        users = [other for other in VERBS if foreign[0] in VERBS[other].flags]
        raise UsageError(f"{verb} does not use --{foreign[0]}; it is a flag of {', '.join(users)}.")
