"""List all flags of the command line. Flags of the 2018 original keep name and meaning."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from data_io.datasets.layouts import AUTO, NAMES
from data_io.decoding.pixel_limit import MAX_PIXELS
from data_io.duplicates import RULES
from delf_ext.models import precision
from delf_ext.recipes.label_parts import CHOOSE_ON
from delf_ext.recipes.original_flags import FLAG_GROUPS, OriginalFlag
from delf_ext.recipes.part import AtLeast1, Count, NotNegative, Positive, Range, Seed
from delf_ext.runs.sources import DEFAULT_MODEL, POOLINGS, RUNTIMES


class Flag(NamedTuple):
    """One flag of the command line.

    Attributes:
        name: without the leading dashes.
        default: its type is the type of the flag; None means a string without a default.
        help: one line for `--help`.
        choices: all values that the flag accepts; empty if any value of the type is accepted.
        kind: type and allowed values of a number or a list of numbers, as in a field of a recipe;
            `Path` for a path or a list of paths; None is the type of `default`.
    """

    name: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    kind: Any = None


AnyFlag = Flag | OriginalFlag
GROUPS: dict[str, tuple[AnyFlag, ...]] = {
    "Data": (
        Flag(
            "data",
            None,
            "class folders, folders train/ query/ gallery/, a CSV file path,label,split[,group], a "
            "published tree (challenge, Grocery Store, Market-1501 ...) or a zip archive of one of "
            "them (default: NSML's DATASET_PATH, else drawn products)",
            kind=Path,
        ),
        Flag(
            "query_split",
            "val",
            "which split holds the queries of a Grocery Store tree, or of a CSV file without other "
            "queries",
            ("val", "test"),
        ),
        Flag(
            "data_layout",
            AUTO,
            "how to read a folder or a zip archive; auto finds out, and asks if there are several "
            "ways",
            NAMES,
        ),
        Flag(
            "merge_labels",
            False,
            "join labels that differ only in how they are written, such as Milk and milk, or 10 "
            "and 10.0; without it they are an error",
        ),
        Flag(
            "max_pixels",
            MAX_PIXELS,
            "skip an image of more pixels, because decoding takes up to 8 bytes for each; a JPEG "
            "that is decoded at a reduced scale may have 10 times as many",
            kind=Annotated[int, Range(low=1, high=10**11)],
        ),
        Flag("image", None, "a photo, or a folder of photos", kind=Path),
        Flag("candidate", None, "the image that --image is compared with", kind=Path),
        Flag(
            "local_store",
            None,
            "folder of local features, written by `extract` or `rerank`",
            kind=Path,
        ),
    ),
    "Model": (
        Flag(
            "run_dir",
            None,
            "run directory that `train` or `adapt` wrote; or pass --pretrained_model or "
            f"--onnx_model (default: the model {DEFAULT_MODEL} of the extra `lite`)",
            kind=Path,
        ),
        Flag(
            "pretrained_model",
            None,
            "trunk that is used without training: lite0, lite1 or lite2 (extra `lite`), a file of "
            "torchvision or timm (its network is recognised), or, with --resnet_type, a TensorFlow "
            "checkpoint (V1 or V2) or an .h5 file of Keras",
            kind=Path,
        ),
        Flag(
            "pooling",
            "avg",
            "how to pool the feature map of --pretrained_model: avg, max or gem (between the two) "
            "over all positions, rmac (maxima of 14 regions), attention (by the length of each "
            "position's vector)",
            tuple(POOLINGS),
        ),
        Flag("trunks", False, "rank networks that are used without training"),
        Flag(
            "poolings",
            ["avg", "gem", "rmac"],
            "poolings to rank, separated by commas: avg, max, gem, rmac, attention; the poolings "
            "of a trunk share one pass through it",
        ),
        Flag(
            "image_sizes",
            ["224", "320"],
            "sides of the square input to rank, in pixels, separated by commas",
            kind=tuple[Annotated[float, Range(low=32, high=4096)], ...],
        ),
        Flag(
            "onnx_model",
            None,
            "FILE.onnx of any network that turns an image into a vector; FILE.onnx.json describes "
            "its input",
            kind=Path,
        ),
        Flag("runs", [], "several run directories, separated by commas", kind=Path),
        Flag(
            "runtime",
            "auto",
            "library that computes embeddings; openvino is faster, openvino-int8 is fastest and "
            "calibrates on --data; auto: TensorFlow; for lite0 to lite2 OpenVINO if it is "
            "installed; for --onnx_model what is installed",
            RUNTIMES,
        ),
        Flag(
            "mixed_precision",
            "auto",
            "compute in bfloat16; auto: only if the processor supports it",
            precision.CHOICES,
        ),
        Flag(
            "features",
            None,
            "folder written by `extract`; embeddings are read from it instead of computed",
            kind=Path,
        ),
        Flag(
            "store_features",
            True,
            "keep embeddings for the next call, in the run directory or the cache folder",
        ),
    ),
    "Head": (
        Flag(
            "for",
            None,
            "what is searched later. seen_classes: new photographs of the labelled products; "
            "unseen_classes: products that have no label yet (one of: seen_classes, "
            "unseen_classes; required)",
        ),
        Flag(
            "copies",
            [],
            "copies of each photograph, query or not, whose embeddings are averaged with its own: "
            "mirror, flip, turn45, turn90, turn180, turn270, turn315, and sizes such as x1.5 (1.5 "
            "times the image size, decoded at that size; each size has all other copies). A copy "
            "takes as long as the photograph, x1.5 twice as long (default: those of the model's "
            "recipe)",
        ),
        Flag(
            "concatenate_sizes",
            False,
            "concatenate the embeddings of the sizes in --copies instead of averaging them: more "
            "numbers for each photograph, often better before a head of `adapt`",
        ),
    ),
    "Recipe": (
        Flag(
            "recipe",
            None,
            "name of a recipe (`mandoo recipes` lists them), or a JSON file (default: the "
            "recipe mandoo_dual, with the values of the flags below)",
            kind=Path,
        ),
        Flag(
            "set",
            (),
            "change one setting of the recipe, such as optimizer.lr=1e-3; may be repeated",
        ),
        Flag(
            "folds",
            0,
            "train the recipe N times, each time without another N-th of the photographs of each "
            "class, which chooses the best epoch; the run joins the N models (default: 0, one "
            "model)",
            kind=Count,
        ),
        Flag(
            "from_run",
            None,
            "run directory of an earlier run; the new run starts from its weights",
            kind=Path,
        ),
    ),
    **FLAG_GROUPS,
    "Run": (
        Flag("resume", False, "continue the run in --run_dir; a larger --epochs extends it"),
        Flag(
            "accept_changed_data",
            False,
            "with --resume: continue although classes or photographs have changed; weights follow "
            "the name of their class, a new class gets new ones, those of a lost class are dropped",
        ),
        Flag("checkpoint_every_steps", 50, "save a checkpoint every N steps", kind=AtLeast1),
        Flag(
            "pixel_cache",
            None,
            "folder for decoded images, so that later epochs do not decode them again; needs "
            "3 * image_size**2 bytes for each image",
            kind=Path,
        ),
        Flag("deterministic", False, "give bit-equal results in every run; slower"),
        Flag("debug", False, "quick test: 240 images, 2 epochs, an evaluation every 5 steps"),
        Flag(
            "debug_data",
            "./debug_data",
            "data for --debug; products are drawn if it is missing",
            kind=Path,
        ),
    ),
    "Re-ranking": (
        Flag(
            "method",
            None,
            "re-ranking steps in order, such as dba:10,aqe:5@3,geometric:100; steps: "
            "dba:num_expand@alpha, aqe:num_expand@alpha, k_reciprocal:k1,k2,lambda_, "
            "diffusion:k,top_k@alpha, geometric:top_k (default: the steps of the recipe)",
        ),
        Flag(
            "time_budget",
            math.inf,
            "seconds until the result must be on disk (default: no limit)",
            kind=NotNegative,
        ),
        Flag(
            "query_copies",
            [],
            "average the embeddings of each query and these copies of it, as --copies, but "
            "without copies of the gallery: mirror, flip, turn45, turn90, turn180, turn270, "
            "turn315, and sizes such as x1.5",
        ),
    ),
    "Labels": (
        Flag(
            "neighbours",
            None,
            "number of nearest photographs that vote (default: chosen)",
            kind=AtLeast1,
        ),
        Flag(
            "power",
            None,
            "a vote weighs similarity**power (default: chosen; 9 for lotte)",
            kind=NotNegative,
        ),
        Flag(
            "temperature",
            None,
            "the logarithms of the scores are divided by it; above 1 makes probabilities less "
            "certain (default: fitted)",
            kind=Positive,
        ),
        Flag(
            "choose_on",
            "auto",
            "labelled photographs to choose method and settings on. gallery: folds of the gallery; "
            "held_out: those that the run held out of its training; queries: those of the data, "
            "whose figures are then too high; auto: held_out if there are enough, else gallery",
            CHOOSE_ON,
        ),
        Flag(
            "like",
            None,
            "take method and settings from a JSON file that `classify --json` wrote; nothing is "
            "chosen then",
            kind=Path,
        ),
        Flag(
            "precision",
            None,
            "answer `unknown` where the label is too uncertain, so that this share of the others "
            "is right where the method was chosen, such as .95",
            kind=Annotated[float, Range(above=0, below=1)],
        ),
        Flag(
            "unknown_below",
            None,
            "answer `unknown` below this probability",
            kind=Annotated[float, Range(above=0, below=1)],
        ),
        Flag(
            "picture",
            None,
            "PNG file for a picture of probabilities and confusions; needs the extra `viz`",
            kind=Path,
        ),
    ),
    "Local features and geometric verification": (
        Flag(
            "local_features",
            None,
            "kind of local features (one of: delf, sift, both; default: delf with the trunk of "
            "your model; sift if you name no model, or one of lite0 to lite2, and OpenCV is "
            "installed)",
            ("delf", "sift", "both"),
        ),
        Flag(
            "local_model",
            None,
            "DELF: run directory, checkpoint or name of the weights of its trunk (default: the "
            "model that embeds)",
            kind=Path,
        ),
        Flag(
            "local_layer",
            None,
            "DELF: end point of the trunk; if the run was trained at this end point, its attention "
            "layer is used (default: block3 of a ResNet, block5 of an EfficientNet-Lite)",
        ),
        Flag(
            "local_image_size",
            640,
            "DELF: longer side of an image at scale 1, in pixels; a smaller image keeps its size",
            kind=Annotated[int, Range(low=32, high=8192)],
        ),
        Flag(
            "local_scales",
            ["0.3536", "0.5", "0.7071", "1", "1.4142"],
            "DELF: scales of the image pyramid, separated by commas",
            kind=tuple[Annotated[float, Range(above=0, high=8)], ...],
        ),
        Flag(
            "local_rotations",
            ["0", "90", "180", "270"],
            "DELF: rotations of each query, in degrees; 0 alone is four times faster, for data "
            "without rotated images",
            kind=tuple[Annotated[float, Range(low=-360, high=360)], ...],
        ),
        Flag(
            "max_features",
            1000,
            "maximum number of local features per image and rotation",
            kind=Annotated[int, Range(low=1, high=100_000)],
        ),
        Flag(
            "descriptor_dim",
            128,
            "DELF: dimensions kept by PCA, by default at most as many as the layer has; the "
            "paper uses 40",
            kind=Annotated[int, Range(low=1, high=2048)],
        ),
        Flag(
            "descriptor_type",
            "float16",
            "how descriptors are stored; int8 needs half the space",
            ("float16", "int8"),
        ),
        Flag(
            "whitening",
            None,
            "DELF: file written by `whiten` (default: the one of the run, else learned on the "
            "gallery)",
            kind=Path,
        ),
        Flag(
            "geometry_model",
            "affine",
            "transform between two images; use homography for flat objects",
            ("similarity", "affine", "homography"),
        ),
        Flag(
            "min_inliers",
            0,
            "minimum RANSAC inliers to accept a pair; 0: 23 for DELF, 12 for SIFT",
            kind=Count,
        ),
        Flag(
            "order_by",
            "inliers",
            "order of accepted candidates; inliers: by number of inliers; combined: also weigh the "
            "number of matches",
            ("inliers", "combined"),
        ),
        Flag(
            "overwrite",
            False,
            "replace an output that mandoo did not write, and stored features that were made with "
            "other settings",
        ),
    ),
    "Results": (
        Flag("out", None, "file or folder for the result", kind=Path),
        Flag("json", None, "also write the figures to this JSON file", kind=Path),
        Flag("report", True, "write an HTML page with pictures"),
        Flag(
            "duplicates",
            "exclude",
            "gallery files with the same bytes as the query. exclude: leave them out of its "
            "ranking; count: count them (but not the query's own file); error: refuse such data",
            RULES,
        ),
        Flag(
            "allow_trained_photographs",
            False,
            "measure also if queries are photographs that the model was trained on; all results "
            "then say so. Without it such queries are an error",
        ),
        Flag("seed", 0, "seed of every random choice", kind=Seed),
        Flag(
            "shard",
            "1/1",
            "i/n: do the i-th of n shares; start one process per share with the same --out",
        ),
        Flag("top_k", 10, "number of results per query", kind=AtLeast1),
        Flag(
            "draw_classes",
            1000,
            "number of products in the training images",
            kind=Annotated[int, Range(low=1, high=1_000_000)],
        ),
        Flag(
            "draw_layout",
            "challenge",
            "tree to draw. challenge: queries show products that training does not; lotte: test "
            "photographs show the same products, taken in another way",
            ("challenge", "lotte"),
        ),
        Flag(
            "draw_shift",
            1.0,
            "lotte: how different test photographs are, from 0 (taken like training photographs) "
            "to 1 (other angles, light, distances and backgrounds)",
            kind=Annotated[float, Range(low=0, high=1)],
        ),
        Flag(
            "draw_size",
            256,
            "side of a drawn photograph in pixels",
            kind=Annotated[int, Range(low=32, high=2048)],
        ),
    ),
    "Set by NSML (do not pass these yourself)": (
        Flag("mode", "train", "train, or answer a submission", ("train", "test")),
        Flag("iteration", "0", "name of the checkpoint to test"),
        Flag(
            "pause",
            0,
            "1 if the platform will call `infer`",
            kind=Annotated[int, Range(low=0, high=1)],
        ),
    ),
}
FLAGS: dict[str, AnyFlag] = {flag.name: flag for entries in GROUPS.values() for flag in entries}
PATH_FLAGS = tuple(
    name for name, flag in FLAGS.items() if isinstance(flag, Flag) and flag.kind is Path
)
