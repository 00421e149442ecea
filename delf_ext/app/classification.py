"""Give labels to photographs from labelled ones, and measure how often they are right."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_io.datasets import DataSet
from data_io.duplicates import RULES, Duplicates, find_duplicates
from data_io.progress import Log, quiet
from data_io.records import ImageList
from delf_ext.app.classification_result import Classification
from delf_ext.app.data import load_named
from delf_ext.app.evaluation_lists import common_lists
from delf_ext.app.label_choice import RULE, WITHOUT_LOGITS, Tried, choose
from delf_ext.app.label_requests import Request, methods_of, request_of_recipe, require_size
from delf_ext.app.label_scores import num_known
from delf_ext.app.label_splits import (
    Choosing,
    Gallery,
    choose_split,
    gallery_of,
    on_gallery,
    on_held_out,
)
from delf_ext.app.label_work import Blocks, Work, give_labels, true_labels
from delf_ext.app.searching import Images, images_of
from delf_ext.app.trained_on import trained_queries
from delf_ext.config import UsageError, require
from delf_ext.features.embedder import AnyEmbedder
from delf_ext.features.extraction import BATCH_SIZE
from delf_ext.features.logits import Logits, one_pass
from delf_ext.recipes.label_parts import Labelling, Method
from delf_ext.recipes.part import BatchSize, Seed, coerced

MOST_NEIGHBOURS = 50
"""Nearest images that are searched for the choice."""


def classify(
    model: AnyEmbedder,
    data: DataSet | str | Path,
    images: Images | None = None,
    *,
    request: Request | None = None,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    duplicates: str = "exclude",
    allow_trained_photographs: bool = False,
    data_name: str = "",
    log: Log = quiet,
) -> Classification:
    """Give each photograph the label of a class of a labelled gallery.

    Args:
        model: from `open_model`.
        data: a data set or its path; its gallery, else its training images, need labels.
        images: photographs to label: a list, a folder, a zip archive or one file. None = the
            queries of the data, which are measured if they have labels; without queries, the
            photographs that training held out; else each photograph is searched in all others.
        request: method and settings; None: those of the recipe of an ensemble; else they are
            chosen.
        batch_size: images per call of the model.
        seed: seed of the folds and of the bootstrap.
        duplicates: what to do with copies of a query in the gallery: "exclude", "count", "error".
        allow_trained_photographs: measure also if queries are photographs that the model was
            trained on.
        data_name: name of the data in the figures; "" = its path or own name.
        log: called with each line of the result.

    Returns:
        The labels, and the figures if the photographs have labels.

    Raises:
        UsageError: the request does not fit the model or the gallery.
        ValueError: the gallery has no labels or only one class, no photograph can be read, or a
            query photograph was trained on and that is not allowed.
    """
    coerced(batch_size, BatchSize, "batch_size")
    coerced(seed, Seed, "seed")
    if request is None or request == Request():
        request = request_of_recipe(model, log)
    require(duplicates in RULES, f"duplicates must be one of {', '.join(RULES)}.")
    methods = methods_of(model, request)
    data, data_name = load_named(data, data_name, log)
    lists = _lists(model, data, images, allow_trained_photographs, log)
    require_size(request, len(lists[1]))
    work = Work(one_pass(model), batch_size, seed)
    blocks, found = _embedded(model, work, data, lists, methods, duplicates, log)
    plain, gallery = blocks.plain, blocks.gallery
    labelling, tried, choosing = _choose(blocks, request, methods, log)
    return Classification(
        model=model.name,
        data=data_name,
        images=plain.query,
        class_names=data.class_names,
        labels=give_labels(blocks, labelling, data.levels),
        labelling=labelling,
        tried=tuple(tried),
        choosing=choosing.description if choosing else "",
        warning=choosing.warning if choosing else "",
        gallery=gallery.names,
        num_gallery=len(gallery.labels),
        failed=plain.query_features.failed,
        trained=trained_queries(model, plain.query, data.class_names),
        duplicates=found,
        levels=data.levels,
        seed=seed,
        retrieval=plain,
        digest=model.digest,
    )


# --- what is labelled, and from what


def _lists(
    model: AnyEmbedder,
    data: DataSet,
    images: Images | None,
    allow_trained_photographs: bool,
    log: Log,
) -> tuple[ImageList, ImageList]:
    """Return the photographs to label, and the labelled gallery."""
    if images is None:
        query, gallery = common_lists(data, [model], log, allow_trained_photographs)
    else:
        query = images_of(images)
        gallery = data.gallery if len(data.gallery) else data.train
        found = trained_queries(model, query, data.class_names)
        if found.photographs:
            log(
                f"{len(found.photographs)} of {len(query)} photographs were trained on: their "
                "probabilities are too high"
            )
    if not gallery.has_label.any():
        raise ValueError(
            f"{data.name}: the gallery has no labels, so there is no label to give. Pass data with "
            "a folder per class, or a CSV file path,label,split."
        )
    num_unlabelled = int(np.sum(~gallery.has_label))
    if num_unlabelled:
        log(f"{num_unlabelled} gallery images have no label: left out")
    is_one_list = query is gallery
    gallery = gallery.labelled()
    return (gallery if is_one_list else query), gallery


def _embedded(
    model: AnyEmbedder,
    work: Work,
    data: DataSet,
    lists: tuple[ImageList, ImageList],
    methods: Sequence[Method],
    duplicates: str,
    log: Log,
) -> tuple[Blocks, Duplicates]:
    """Return embeddings and logits of the queries and the gallery, and their common photographs."""
    query, labelled = lists
    uses_logits = any(method in ("softmax", "lotte") for method in methods)
    logits = work.logits(query) if uses_logits else None
    plain = work.embed(query, labelled)
    if plain.warning:
        log(plain.warning)
    gallery = gallery_of(model, plain.gallery, data.class_names, plain.gallery_features)
    if logits is not None:
        logits = logits.take(np.isin(query.ids, plain.query.ids))
        _note_classes(logits, gallery, log)
    found = find_duplicates(plain.query, gallery.images, duplicates)
    return Blocks(work, plain, gallery, logits, found.junk), found


def _note_classes(logits: Logits, gallery: Gallery, log: Log) -> None:
    known = num_known(logits.class_names, gallery.names)
    if known < len(gallery.names):
        log(
            f"the classifier has {known} of the {len(gallery.names)} classes of the gallery: its "
            "softmax never gives the others"
        )


# --- the choice


def _choose(
    blocks: Blocks, request: Request, methods: tuple[Method, ...], log: Log
) -> tuple[Labelling, list[Tried], Choosing | None]:
    if request.like is not None:
        log(f"labels: {request.like}, without a choice")
        return request.like, [], None
    wanted = request.wanted
    choosing = _choosing(blocks, request)
    if choosing is None:
        return _without_choice(request, methods, log), [], None
    if wanted.method is None and not choosing.trusts_logits and blocks.logits is not None:
        methods = WITHOUT_LOGITS
        log(
            "the classifier was trained on these photographs and looks perfect on them: softmax "
            "and lotte are not tried"
        )
    labelling, tried = choose(choosing.evidence, choosing.labels, wanted, methods)
    if wanted.method is not None:
        tried = [one for one in tried if one.labelling.method == wanted.method]
    log(f"chosen on {choosing.description}: {RULE}")
    if choosing.warning:
        log(f"warning: {choosing.warning}")
    return labelling, tried, choosing


def _choosing(blocks: Blocks, request: Request) -> Choosing | None:
    work, gallery = blocks.work, blocks.gallery
    k = max(MOST_NEIGHBOURS, request.wanted.neighbours or 0)
    split = choose_split(gallery, request.choose_on)

    def logits_of(rows: np.ndarray) -> Logits:
        return work.logits(gallery.images.take(rows))

    # Logits of trained photographs look perfect: only a user who asks for them gets them judged.
    is_judged = split == "held_out" or request.wanted.method is not None or not gallery.seen.any()
    needs = logits_of if blocks.logits is not None and is_judged else None
    if split == "held_out":
        return on_held_out(work.model, gallery, k, needs, work.seed)
    if split == "gallery":
        return on_gallery(work.model, gallery, k, needs, work.seed)
    true = true_labels(blocks)
    rows = np.flatnonzero(true >= 0)
    if not len(rows):
        raise UsageError(
            "--choose_on=queries: no query has a label of a class of the gallery. Pass "
            "--choose_on=gallery."
        )
    largest = len(blocks)
    if len(rows) > largest:
        rows = np.sort(np.random.default_rng(work.seed).choice(rows, largest, replace=False))
    return Choosing(
        blocks.evidence(rows, k),
        true[rows],
        f"{len(rows)} queries of the data (--choose_on=queries)",
        "the figures below are of the queries that chose: measure on others with --like",
    )


def _without_choice(request: Request, methods: tuple[Method, ...], log: Log) -> Labelling:
    wanted = request.wanted
    require(
        wanted.method != "product" and wanted.precision is None,
        "each class of the gallery has one photograph, so nothing can be chosen on it: pass "
        "--method=centres, vote, softmax or lotte and no --precision, or --choose_on=queries.",
    )
    log(
        "warning: each class of the gallery has one photograph, so nothing is chosen, and "
        "probabilities are not calibrated"
    )
    method: Method = wanted.method or "centres"
    vote = wanted.vote(Labelling().vote if method != "lotte" else Labelling("lotte").vote)
    return Labelling(
        method,
        dataclasses.replace(vote, logit_power=10.0 if method == "lotte" else 0.0),
        temperature=wanted.temperature or 1.0,
        unknown_below=wanted.unknown_below or 0.0,
    )
