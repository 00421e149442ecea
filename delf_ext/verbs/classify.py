"""Give labels to photographs, and measure them if their labels are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.datasets.data_set import counted
from data_io.files.artifacts import read_json, write_text
from data_io.files.marks import mark_beside
from data_io.files.names import shown
from data_io.files.output_files import is_stream
from data_io.messages import shown_path, skipped_lines
from data_io.progress import say
from data_io.tables.csv_rows import csv_text
from delf_ext.app.classification import classify
from delf_ext.app.classification_result import FINE, UNKNOWN, Classification
from delf_ext.app.label_choice import Wanted
from delf_ext.app.label_requests import Request
from delf_ext.config import UsageError
from delf_ext.evaluation.intervals import too_few_note
from delf_ext.features.embedder import AnyEmbedder
from delf_ext.recipes import codec
from delf_ext.recipes.label_parts import Labelling
from delf_ext.runs.opening import open_model
from delf_ext.runs.sources import EnsembleSource, Runtime
from delf_ext.verbs.adapt import base_source
from delf_ext.verbs.data import load, name_of
from delf_ext.verbs.models import NO_MODEL, batch_size_of, calibration_images, names_model
from delf_ext.verbs.printing import HeldLog, show_mostly_skipped, write_figures

NUM_PRINTED = 10
"""Photographs, and confusions, that get a line each."""


def run(flags: Any) -> None:
    """Print labels and figures, and write them to --out, --json and --picture.

    Raises:
        UsageError: naming the flag that is missing or does not fit.
    """
    request = request_of(flags)
    if not flags.data:
        raise UsageError("classify takes labels from the photographs of --data: pass it.")
    if flags.picture:
        from delf_ext.evaluation.classification_picture import require_matplotlib

        require_matplotlib()
    log = HeldLog()
    model = _open(flags, log)
    data = load(flags)
    log.release()
    if flags.like is not None:
        _note_other_model(Path(flags.like), model)
    result = classify(
        model,
        data,
        flags.image,
        request=request,
        batch_size=batch_size_of(flags),
        seed=flags.seed,
        duplicates=flags.duplicates,
        allow_trained_photographs=flags.allow_trained_photographs,
        data_name=name_of(data, flags),
        log=say,
    )
    _show(result)
    _write(result, flags)
    for line in skipped_lines(result.retrieval.skipped):
        print(line)
    show_mostly_skipped(result.retrieval)


def request_of(flags: Any) -> Request:
    """Return how the flags want labels to be given.

    Args:
        flags: the flags of the verb.

    Returns:
        The request.

    Raises:
        UsageError: a flag does not fit.
        ValueError: the file of --like has no settings.
    """
    names = ("method", "neighbours", "power", "temperature", "unknown_below", "precision")
    wanted = Wanted(**{name: getattr(flags, name) for name in names})
    like = None if flags.like is None else _labelling_in(Path(flags.like))
    return Request(wanted, flags.choose_on, like)


def _labelling_in(path: Path) -> Labelling:
    figures = read_json(path)
    values = figures.get("labelling") if isinstance(figures, dict) else None
    try:
        labelling = codec.from_json(values, f"{path}: labelling")
    except UsageError as error:
        raise ValueError(str(error)) from None
    if not isinstance(labelling, Labelling):
        raise ValueError(f"{path}: not a file of `mandoo classify --json`: it has no labelling.")
    return labelling


def _note_other_model(path: Path, model: AnyEmbedder) -> None:
    figures = read_json(path)
    if figures.get("model_digest") != model.digest:
        say(
            f"warning: {shown_path(path)} was made with another model or precision "
            f"({figures.get('model')}): its probabilities may not fit this one"
        )


def _open(flags: Any, log: HeldLog) -> AnyEmbedder:
    source = base_source(flags)
    if not names_model(flags):
        log(NO_MODEL)
    if flags.features and isinstance(source, EnsembleSource):
        raise UsageError("--features belongs to one model: leave it out for several.")
    return open_model(
        source,
        Runtime(flags.runtime, flags.mixed_precision),
        store=flags.store_features,
        features=Path(flags.features) if flags.features else None,
        calibration=lambda: calibration_images(flags),
        log=log,
    )


# --- what is printed


def _show(result: Classification) -> None:
    for line in result.retrieval.failed_notes():
        print(line)
    for line in (*result.trained.notes(), *result.duplicates.notes()):
        print(line)
    if len(result.tried) > 1:
        print(f"\n{'method':<58} accuracy    GAP    ECE")
        for one in result.tried:
            print(f"{one.labelling!s:<58} {one.accuracy:8.4f} {one.gap:6.4f} {one.ece:6.4f}")
        print()
    print(f"labels: {result.labelling}, temperature {result.labelling.temperature:.3g}")
    if result.labelling.unknown_below > 1:
        print(f"{UNKNOWN}: all photographs, because no limit reaches --precision: pass a lower one")
    elif result.labelling.unknown_below:
        number = int((~result.is_known).sum())
        print(
            f"{UNKNOWN}: {number} of {len(result)} photographs, whose label has a probability "
            f"below {result.labelling.unknown_below:.3f}"
        )
    if result.is_measured:
        _show_figures(result)
    else:
        _show_labels(result)


def _show_labels(result: Classification) -> None:
    for row in list(result.rows())[:NUM_PRINTED]:
        guess = f" ({shown(str(row['best_label']))}?)" if row["label"] == UNKNOWN else ""
        print(
            f"  {row['probability']:.3f}  {shown(str(row['label']))}{guess}  {shown(row['path'])}"
        )
    if len(result) > NUM_PRINTED:
        print(f"  ... and {len(result) - NUM_PRINTED} more")


def _show_figures(result: Classification) -> None:
    number = len(result.predicted.true)
    titles = {"accuracy": "accuracy", "macro_f1": "macro F1", "gap": "GAP", "ece": "ECE"}
    if result.levels:
        titles["accuracy"] = f"accuracy, {FINE}"
    for name, (value, low, high) in result.metrics.items():
        title = titles.get(name, name.replace("_", ", ", 1))
        interval = f"95 % bootstrap over {number} queries, seed {result.seed}"
        print(f"{title:<20} {value:.4f}  [{low:.4f}, {high:.4f}] {interval}")
    too_few = too_few_note(number)
    if too_few:
        print(f"warning: {too_few}")
    if result.labelling.unknown_below:
        num_answered, share = result.answered
        print(f"{'answered':<20} {num_answered} of {number}, {share:.4f} of them right")
    num_missing = int((~result.is_findable).sum())
    if num_missing:
        print(f"{num_missing} queries are of classes that the gallery does not have: always wrong")
    figures = result.figures()
    if figures["confusions"]:
        print("most frequent confusions:")
    for one in figures["confusions"][:NUM_PRINTED]:
        print(
            f"  {one['number']:>3} of {one['num_true']:>3}  {shown(one['true'])} -> "
            f"{shown(one['label'] or 'none')}"
        )


# --- what is written


def _write(result: Classification, flags: Any) -> None:
    if flags.out:
        rows = list(result.rows())
        lines = [[str(cell) for cell in row.values()] for row in rows]
        write_text(flags.out, csv_text([list(rows[0]), *lines]))
        if not is_stream(flags.out):
            mark_beside(Path(flags.out))
        say(f"labels: {shown_path(flags.out)}, {counted(len(rows), 'photograph')}")
    if flags.json:
        write_figures(flags.json, result.figures())
    if flags.picture:
        from delf_ext.evaluation.classification_picture import draw_classification

        if not result.is_measured:
            say("no picture: the photographs have no labels to compare with")
            return
        draw_classification(flags.picture, result.predicted, result.class_names)
        say(f"picture: {shown_path(flags.picture)}")
