"""Every flag of the front door, grouped as `--help` shows them. Flags of the original keep name and meaning."""

from __future__ import annotations

import math

from absl import flags

LOSSES = ("logits", "sim", "sim_dist", "max_neg", "triplet")
# group -> (name, default, help[, choices]); the default's type is the flag's.
FLAGS: dict[str, list[tuple]] = {
    "Data": [
        ("data", None, "class folders, CSV path,label,split[,group], challenge tree or Grocery Store tree; without it NSML's "
                       "DATASET_PATH, under --debug --debug_data, else a drawn data set"),
        ("debug_data", "./debug_data", "the data under --debug; drawn when it does not exist"),
        ("query_split", "val", "which list of the Grocery Store tree gives the queries", ["val", "test"]),
        ("dev_percent", 0.1, "share of the training classes held out to choose the best weights; 0: none"),
        ("dev_split", "block", "a contiguous block of classes, or random ones", ["block", "random"]),
        ("dev_querynum", 300, "most query images of the dev split"),
        ("dev_referencenum", 20, "most gallery images per class of the dev split"),
        ("image_size", 224, "side of the square that a photograph is resized to, in pixels"),
    ],
    "Model": [
        ("pretrained_model", None, "TensorFlow checkpoint, V1 or V2, that initialises the trunk"),
        ("resnet_type", "resnet_v1_50/block4", "backbone and end point: resnet_v1_50|101|152/block1..4, resnet_v2_50/block4, "
                                               "inception_v3/Mixed_7c, vgg_16/conv5"),
        ("layout", "auto", "where a ResNet v1 has its strides; auto: as the manifest says", ["auto", "slim", "keras", "v1.5"]),
        ("pooling", "avg", "of a zero-shot trunk (--pretrained_model without --run_dir)", ["avg", "gem", "attention"]),
        ("stop_gradient_sim", False, "the similarity branch teaches nothing to trunk, attention and logits"),
        ("skipcon_attn", False, "adds the unweighted sum of features to the similarity branch"),
        ("logit_concat_sim", False, "appends the logits to the similarity branch's input"),
        ("onnx_model", None, "any image-embedding network, FILE.onnx; FILE.onnx.json says how it wants its photographs"),
        ("runtime", "auto", "what computes embeddings; auto: TensorFlow, for --onnx_model OpenVINO or else ONNX Runtime; "
                            "openvino-int8: in 8-bit integers, calibrated on --data",
                            ["auto", "tensorflow", "openvino", "openvino-int8", "onnxruntime"]),
    ],
    "Losses (any number together)": [
        ("train_logits", False, "classification: softmax cross-entropy + squared error"),
        ("train_sim", False, "pairs: sigmoid cross-entropy on (cosine - 0.5) * 32"),
        ("train_sim_dist", False, "pairs: squared error of the same sigmoid"),
        ("train_max_neg", False, "the most similar images of other classes are pushed away"),
        ("train_max_neg_topk", 5, "how many of them per image"),
        ("train_triplet", False, "batch-hard triplets (TensorFlow Addons)"),
        ("margin", 0.3, "of the triplets, on distances of unit vectors"),
        *((f"{name}_weight", 1.0, f"weight of --train_{name} in the sum") for name in LOSSES),
    ],
    "Local features and geometric verification": [
        ("local_features", "delf", "which kind: rerank, match, extract (embeddings without this flag)", ["delf", "sift", "both"]),
        ("local_model", None, "DELF's trunk: a run or a checkpoint; without it --run_dir or --pretrained_model"),
        ("local_layer", "block3", "DELF: end point of the trunk; a run trained on it brings its attention"),
        ("local_image_size", 640, "DELF: longer side of a photograph at scale 1, in pixels; smaller ones are not enlarged"),
        ("local_scales", ["0.3536", "0.5", "0.7071", "1", "1.4142"], "DELF: image pyramid"),
        ("local_rotations", ["0", "90", "180", "270"], "DELF: turns of a query, in degrees; 0: upright photographs, quicker"),
        ("max_features", 1000, "most local features of a photograph, or of each of its turns"),
        ("descriptor_dim", 128, "DELF: dimensions kept by PCA; published: 40"),
        ("descriptor_type", "float16", "how descriptors are stored", ["float16", "int8"]),
        ("whitening", None, "DELF: file made by `whiten`; without it one is learned on the gallery"),
        ("geometry_model", "affine", "what lays one photograph onto another", ["similarity", "affine", "homography"]),
        ("min_inliers", 0, "matches that agree on a transform, from which a pair is believed; 0: DELF 23, SIFT 12"),
        ("order_by", "inliers", "rerank: by number of inliers, or by a calibrated score", ["inliers", "combined"]),
        ("overwrite", False, "starts local features, or extract's embeddings, anew when other settings made them"),
        ("local_store", None, "export: a folder that extract or rerank filled with local features"),
        ("candidate", None, "match: the photograph that --image is compared with"),
    ],
    "Re-ranking": [
        ("method", None, "what is done to a ranking, in order: geometric:TOP_K, aqe:IMAGES@ALPHA, dba:IMAGES@ALPHA, "
                         "k_reciprocal:K1,K2,LAMBDA, diffusion:K,TOP_K@ALPHA; such as dba:10,aqe:5@3,geometric:100. rerank "
                         "(geometric), evaluate, infer; compare takes several, separated by semicolons"),
        ("time_budget", math.inf, "rerank, evaluate, infer: seconds from the start to the result; the plain ranking is ready "
                                  "first, and what re-ranking does not reach keeps it"),
        ("query_copies", [], "rerank, evaluate, infer: copies of a query whose embeddings are averaged with its own: mirror, "
                             "turn90, turn180, turn270"),
    ],
    "Training": [
        ("epochs", 200, "passes over the training images"),
        ("batch_size", 64, "images per step; of extraction too, else what a short trial finds fastest"),
        ("images_per_class", 0, "batches of P classes x K images; 0: K=4 for --train_triplet and --train_max_neg, else pairs"),
        ("lr", 1e-4, "Adam's learning rate"),
        ("classifier_lr_factor", 10.0, "learning rate of attention and classifier, times --lr"),
        ("lr_schedule", "constant", "learning rate over the run", ["constant", "cosine"]),
        ("freeze_backbone", False, "trains attention and heads on feature maps computed once (no augmentation)"),
        ("freeze_batch_norm", False, "keeps the trunk's stored batch statistics while training"),
        ("batch_norm_decay", 0.997, "how slowly the trunk's batch statistics follow; 0.9 suits runs of a few hundred steps"),
        ("weight_decay", 0.0, "L2 penalty on the trunk's weights"),
        ("eval_every_steps", 150, "steps between evaluations on the dev split"),
        ("checkpoint_every_steps", 50, "steps that a kill can cost"),
        ("augmentation", False, "switches on the changes named below; alone: --crop and --fliplr"),
        ("crop", False, "with --augmentation: a random part, sides 70 % or more"),
        ("fliplr", False, "with --augmentation: left and right"),
        ("flipud", False, "with --augmentation: upside down"),
        ("rotate", False, "with --augmentation: -45 to +45 degrees"),
        ("gausian", False, "with --augmentation: blur"),
        ("dropout", False, "with --augmentation: pixels go black"),
        ("noise", False, "with --augmentation: Gaussian noise"),
        ("debug", False, "small local run: 240 images, 2 epochs, dev evaluation every 5 steps"),
        ("seed", 0, "of every random choice"),
        ("pixel_cache", None, "folder that keeps decoded photographs for later epochs; 3 * image_size**2 bytes each"),
        ("deterministic", False, "bit-equal runs, slower"),
        ("mixed_precision", "auto", "bfloat16 arithmetic; auto: where the processor has it", ["auto", "off", "bfloat16"]),
    ],
    "Runs and results": [
        ("run_dir", None, "directory of a run; train makes a new one under runs/ without it"),
        ("resume", False, "continues the run in --run_dir; --epochs may be raised"),
        ("runs", [], "compare: run directories, separated by commas"),
        ("json", None, "evaluate, compare: file for the figures"),
        ("report", True, "evaluate, compare, rerank: writes a page with pictures"),
        ("shard", "1/1", "extract: i/n, the i-th of n processes that fill one --out; whichever ends last joins the parts"),
        ("out", None, "where the result goes; compare, demo, draw, infer have a place of their own"),
        ("image", None, "search: a photograph, or a folder of them; match: a photograph"),
        ("top_k", 10, "search: results per photograph"),
        ("draw_classes", 1000, "draw: training classes; the rest in the challenge's proportions"),
    ],
    "Reserved by NSML (accepted; bound where the platform is)": [
        ("mode", "train", "train or test"),
        ("iteration", "0", "checkpoint to test"),
        ("pause", 0, "1 when the platform wants `infer` bound"),
    ],
}  # fmt: skip

KINDS = {bool: "boolean", int: "integer", float: "float", str: "string", list: "list", type(None): "string"}


def new_flags() -> flags.FlagValues:
    """All flags with their defaults; values of their own, not absl's global ones, so that one process can run several verbs."""
    values = flags.FlagValues()
    for entries in FLAGS.values():
        for name, default, text, *choices in entries:
            if choices:
                flags.DEFINE_enum(name, default, choices[0], text, flag_values=values)
            else:
                getattr(flags, f"DEFINE_{KINDS[type(default)]}")(name, default, text, flag_values=values)
    return values
