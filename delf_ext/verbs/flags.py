"""Every flag of the front door, and which verb takes which. Flags of the original keep name and meaning."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from absl import flags

from delf_ext.config import UsageError
from delf_ext.recipes.mandoo_dual import ORIGINAL_FLAGS
from delf_ext.runs.sources import RUNTIMES


class Flag(NamedTuple):
    """A flag: its default, whose type it has, and one line of help."""

    name: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()


DATA_HELP = "class folders, CSV path,label,split[,group], challenge tree or Grocery Store tree"
METHOD_HELP = (
    "re-rankers in order: geometric:TOP_K, aqe:IMAGES@ALPHA, dba:IMAGES@ALPHA, k_reciprocal:K1,K2,LAMBDA, "
    "diffusion:K,TOP_K@ALPHA; such as dba:10,aqe:5@3,geometric:100. compare takes several, separated by semicolons"
)
ORIGINAL = {
    group: tuple(Flag(*flag[:3], flag.choices) for flag in entries)
    for group, entries in ORIGINAL_FLAGS.items()
}
GROUPS: dict[str, tuple[Flag, ...]] = {
    "Data": (
        Flag("data", None, f"{DATA_HELP}; without it NSML's DATASET_PATH, else a drawn data set"),
        Flag(
            "query_split",
            "val",
            "which list of the Grocery Store tree gives the queries",
            ("val", "test"),
        ),
    ),
    "Model": (
        Flag("run_dir", None, "directory of a run; train makes a new one under runs/ without it"),
        Flag(
            "pretrained_model",
            None,
            "TensorFlow checkpoint, V1 or V2: the trunk starts from it, or is used as it is",
        ),
        Flag("pooling", "avg", "of --pretrained_model without a run", ("avg", "gem", "attention")),
        Flag(
            "onnx_model",
            None,
            "any image-embedding network, FILE.onnx; FILE.onnx.json says how it wants its photographs",
        ),
        Flag("runs", [], "run directories, separated by commas"),
        Flag(
            "runtime",
            "auto",
            "what computes embeddings; openvino-int8 is calibrated on --data",
            RUNTIMES,
        ),
        Flag(
            "mixed_precision",
            "auto",
            "bfloat16; auto: where the processor has it",
            ("auto", "off", "bfloat16"),
        ),
        Flag(
            "features",
            None,
            "a folder that extract filled: embeddings are taken from it where it holds them",
        ),
        Flag(
            "store_features",
            True,
            "keep embeddings for the next call, in the run or in the cache folder",
        ),
    ),
    "Re-ranking": (
        Flag("method", None, METHOD_HELP),
        Flag(
            "time_budget",
            math.inf,
            "seconds from the start to the result; the plain ranking is ready first",
        ),
        Flag(
            "query_copies",
            [],
            "copies of a query whose embeddings are averaged with its own: mirror, flip, turn45, turn90, turn180, ...",
        ),
    ),
    "Local features and geometric verification": (
        Flag("local_features", "delf", "which kind", ("delf", "sift", "both")),
        Flag(
            "local_model",
            None,
            "DELF's trunk: a run or a checkpoint; without it --run_dir or --pretrained_model",
        ),
        Flag(
            "local_layer",
            "block3",
            "DELF: end point of the trunk; a run trained on it brings its attention",
        ),
        Flag(
            "local_image_size",
            640,
            "DELF: longer side of a photograph at scale 1, in pixels; smaller ones stay",
        ),
        Flag("local_scales", ["0.3536", "0.5", "0.7071", "1", "1.4142"], "DELF: image pyramid"),
        Flag(
            "local_rotations",
            ["0", "90", "180", "270"],
            "DELF: turns of a query in degrees; 0: upright, quicker",
        ),
        Flag("max_features", 1000, "most local features of a photograph, or of each of its turns"),
        Flag("descriptor_dim", 128, "DELF: dimensions kept by PCA; published: 40"),
        Flag("descriptor_type", "float16", "how descriptors are stored", ("float16", "int8")),
        Flag(
            "whitening",
            None,
            "DELF: file made by `whiten`; without it one is learned on the gallery",
        ),
        Flag(
            "geometry_model",
            "affine",
            "transform between two photographs",
            ("similarity", "affine", "homography"),
        ),
        Flag(
            "min_inliers", 0, "minimum RANSAC inliers to accept a pair; 0: 23 for DELF, 12 for SIFT"
        ),
        Flag(
            "order_by",
            "inliers",
            "order by number of inliers, or by a calibrated score",
            ("inliers", "combined"),
        ),
        Flag("overwrite", False, "replace features that other settings made"),
        Flag("local_store", None, "a folder that extract or rerank filled with local features"),
        Flag("candidate", None, "the photograph that --image is compared with"),
    ),
    "Recipe": (
        Flag("recipe", None, "a recipe by name (`mandoo recipes` lists them), or a JSON file"),
        Flag("from_run", None, "start from the weights of another run"),
    ),
    **ORIGINAL,
    "Run": (
        Flag("debug", False, "small local run: 240 images, 2 epochs, evaluation every 5 steps"),
        Flag("debug_data", "./debug_data", "the data under --debug; drawn when it does not exist"),
        Flag("resume", False, "continue the run in --run_dir; --epochs may be raised"),
        Flag("checkpoint_every_steps", 50, "save a checkpoint every N steps"),
        Flag(
            "pixel_cache",
            None,
            "folder that keeps decoded photographs for later epochs; 3 * image_size**2 bytes each",
        ),
        Flag("deterministic", False, "bit-equal runs, slower"),
        Flag("seed", 0, "of every random choice"),
    ),
    "Results": (
        Flag("out", None, "where the result goes"),
        Flag("json", None, "file for the figures"),
        Flag("report", True, "write a page with pictures"),
        Flag(
            "shard",
            "1/1",
            "i/n: the i-th of n processes that fill one --out; whichever ends last joins the parts",
        ),
        Flag("image", None, "a photograph, or a folder of them"),
        Flag("top_k", 10, "results per photograph"),
        Flag("draw_classes", 1000, "training classes; the rest in the challenge's proportions"),
    ),
    "Reserved by NSML": (
        Flag("mode", "train", "train or test", ("train", "test")),
        Flag("iteration", "0", "checkpoint to test"),
        Flag("pause", 0, "1 when the platform wants `infer` bound"),
    ),
}
FLAGS = {flag.name: flag for entries in GROUPS.values() for flag in entries}

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
KINDS = {
    bool: "boolean",
    int: "integer",
    float: "float",
    str: "string",
    list: "list",
    type(None): "string",
}


def new_flags() -> flags.FlagValues:
    """Return all flags with their defaults; values of their own, so that one process can run several verbs."""
    values = flags.FlagValues()
    for flag in FLAGS.values():
        if flag.choices:
            flags.DEFINE_enum(flag.name, flag.default, flag.choices, flag.help, flag_values=values)
        else:
            define = getattr(flags, f"DEFINE_{KINDS[type(flag.default)]}")
            define(flag.name, flag.default, flag.help, flag_values=values)
    flags.DEFINE_multi_string(
        "set", [], "a setting of the recipe, PATH=VALUE; may be repeated", flag_values=values
    )
    return values


def require_own_flags(verb: str, values: flags.FlagValues) -> None:
    """Raise UsageError when a flag was given that the verb does not use."""
    given = [name for name in (*FLAGS, "set") if values[name].present]
    foreign = [name for name in given if name not in VERBS[verb].flags]
    if foreign:
        takers = [other for other in VERBS if foreign[0] in VERBS[other].flags]
        raise UsageError(
            f"{verb} does not use --{foreign[0]}; it is a flag of {', '.join(takers)}."
        )


def help_text(verb: str | None = None) -> str:
    """Return the verbs on one screen; for a verb its flags, by group, with examples."""
    return _help_of(verb) if verb else _help_of_all()


def _help_of_all() -> str:
    lines = ["usage: mandoo [VERB] [--flags]     (the same as: python dual_main.py ...)", ""]
    lines += [f"  {name:<10} {verb.summary}" for name, verb in VERBS.items()]
    lines += ["", "examples:"]
    lines += [
        f"  {VERBS[name].examples[0]}"
        for name in ("train", "evaluate", "search", "compare", "demo")
    ]
    return "\n".join([*lines, "", "mandoo VERB --help lists the flags of a verb."])


def _help_of(name: str) -> str:
    verb = VERBS[name]
    lines = [f"usage: mandoo {name} [--flags]", f"  {verb.summary}", "", "examples:"]
    lines += [f"  {example}" for example in verb.examples]
    for group, entries in GROUPS.items():
        own = [flag for flag in entries if flag.name in verb.flags]
        if own:
            lines += ["", f"{group}:", *map(_line_of, own)]
        if group == "Recipe" and "set" in verb.flags:
            lines.append(
                f"  --{'set':<22} a setting of the recipe, such as optimizer.lr=1e-3; may be repeated"
            )
    return "\n".join(lines)


def _line_of(flag: Flag) -> str:
    values = f" ({', '.join(flag.choices)})" if flag.choices else ""
    default = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
    shown = "" if flag.default in (None, False, []) else f" [{default}]"
    return f"  --{flag.name:<22} {flag.help}{values}{shown}"
