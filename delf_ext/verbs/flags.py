"""Every flag of the front door, and which verb takes which. Flags of the original keep name and meaning."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from absl import flags

from delf_ext.models import precision
from delf_ext.recipes.original_flags import FLAG_GROUPS
from delf_ext.runs.sources import POOLINGS, RUNTIMES


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
    for group, entries in FLAG_GROUPS.items()
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
        Flag("pooling", "avg", "of --pretrained_model without a run", tuple(POOLINGS)),
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
            precision.CHOICES,
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
        Flag("set", (), "a setting of the recipe, such as optimizer.lr=1e-3; may be repeated"),
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

KINDS = {
    bool: "boolean",
    int: "integer",
    float: "float",
    str: "string",
    list: "list",
    tuple: "multi_string",
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
    return values
