"""Train the official baseline with `python -m baseline_keras --data=PATH`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from baseline_keras import binding
from data_io.datasets.layouts import AUTO, NAMES
from data_io.decoding.pixel_limit import MAX_PIXELS, set_max_pixels
from data_io.files.names import print_any_name
from data_io.files.output_files import home_path
from data_io.files.skipped_files import warn_if_mostly_skipped
from data_io.messages import error_line

EXAMPLES = """examples:
  python -m baseline_keras --data=photos --epochs=100 --run_dir=runs/baseline
  python -m baseline_keras --data=products.csv --image_size=96 --epochs=10 --run_dir=runs/small
  python -m baseline_keras --data=photos --run_dir=runs/baseline --resume
      continue a run that was stopped
  nsml run -d ir_ph1_v2 -e baseline_keras --args "--epochs=5"
      train on NSML, which sets the path of the data

The run directory will hold recipe.json, facts.json, metrics/training.json, checkpoint/ and events
for TensorBoard. `mandoo evaluate --run_dir=...` measures the trained model."""
SETTINGS = ("epochs", "batch_size", "image_size", "seed")
DATA_HELP = (
    "class folders, a CSV file with path,label,split[,group], the challenge's tree or the "
    "Grocery Store tree (default on NSML: the session's data set)"
)


def whole_number(text: str) -> int:
    """Parse a whole number; argparse prints the message if it is none."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number. Received {text!r}.") from None


def from_to(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`."""

    def parse(text: str) -> int:
        value = whole_number(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}. Received {text}.")
        return value

    return parse


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m baseline_keras",
        description="Train the challenge's official Keras baseline: a small classifier. The "
        "output of its last dense layer is the embedding.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    data_default = binding.DATASET_PATH or None
    add("--data", type=home_path, default=data_default, metavar="PATH", help=DATA_HELP)
    run_dir_help = "run directory to write (default: %(default)s)"
    default_dir = "runs/keras_baseline"
    add("--run_dir", type=home_path, default=default_dir, metavar="DIR", help=run_dir_help)
    epochs_help = "number of epochs (default: %(default)s)"
    add("--epochs", type=from_to(1, 1_000_000), default=100, metavar="N", help=epochs_help)
    batch_help = "images per training step (default: %(default)s)"
    add("--batch_size", type=from_to(1, 65536), default=64, metavar="N", help=batch_help)
    size_help = "side of the square input (default: %(default)s)"
    add("--image_size", type=from_to(10, 4096), default=224, metavar="PX", help=size_help)
    seed_help = "seed for the initial weights, image order and augmentation (default: %(default)s)"
    add("--seed", type=from_to(0, 2**32 - 1), default=0, metavar="N", help=seed_help)
    pixels_help = "skip an image of more pixels (default: %(default)s)"
    pixels = from_to(1, 10**11)
    add("--max_pixels", type=pixels, default=MAX_PIXELS, metavar="N", help=pixels_help)
    layout_help = "how to read a folder or a zip archive (default: %(default)s, which finds out)"
    add("--data_layout", choices=NAMES, default=AUTO, metavar="LAYOUT", help=layout_help)
    merge_help = "join labels that differ only in how they are written, such as Milk and milk"
    add("--merge_labels", action="store_true", help=merge_help)
    resume_help = "continue the run in --run_dir after its last finished epoch"
    add("--resume", action="store_true", help=resume_help)
    add = parser.add_argument_group("flags that NSML sets").add_argument
    add("--mode", choices=("train", "test"), default="train", help="test: run a submission")
    add("--iteration", default="0", help="checkpoint to load")
    add("--pause", type=from_to(0, 1), default=0, help="1: load a checkpoint before the training")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Train with the given flags.

    Args:
        argv: flags; None: those of the process.

    Returns:
        Exit code: 0 if it succeeded, 1 if data or disk cannot be used, 130 if interrupted.
        Wrong flags exit with 2.
    """
    parser = build_parser()
    argv = sys.argv[1:] if argv is None else argv
    print_any_name()
    args = parser.parse_args(argv)
    given = {word.partition("=")[0].lstrip("-") for word in argv}
    if args.mode == "test" and not binding.IS_ON_NSML:
        parser.error("--mode=test works only in a session that `nsml submit` has started")
    if not args.data and args.mode == "train":
        parser.error("the following arguments are required: --data")
    # TensorFlow would print three lines about CUDA.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    set_max_pixels(args.max_pixels)
    try:
        return _train(args, given)
    except (OSError, ValueError) as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped. Continue with --resume --run_dir={args.run_dir}", file=sys.stderr)
        return 130


def _settings(args: argparse.Namespace, given: set[str], resume: bool) -> dict[str, int]:
    """Return the settings of the training. A resumed run keeps those that were not given."""
    from baseline_keras.run_directory import stored_settings

    settings = {name: getattr(args, name) for name in SETTINGS}
    if resume:
        stored = stored_settings(Path(args.run_dir))
        settings |= {name: value for name, value in stored.items() if name not in given}
    return settings


def _train(args: argparse.Namespace, given: set[str]) -> int:
    # Imported here, because they import TensorFlow and --help must be fast.
    from baseline_keras.session import Session
    from baseline_keras.training import load_checked, num_skipped, train
    from delf_ext.runs.run_directory import is_run

    session = Session(args.run_dir, args.epochs) if binding.IS_ON_NSML else None
    is_paused = session is not None and args.pause != 0
    if is_paused:
        binding.paused(scope={"session": session})
    if args.mode == "test":
        return 0
    if args.resume and not is_paused and not is_run(Path(args.run_dir)):
        raise ValueError(f"{args.run_dir}: holds no run. Leave --resume out to start one.")
    dataset = load_checked(args.data, args.merge_labels, args.data_layout)
    print(f"data: {dataset.read_as}")
    for note in dataset.notes:
        print(note)
    num_unlabelled = len(dataset.train) - len(dataset.train.labelled())
    if num_unlabelled:
        print(f"{num_unlabelled} training images have no label: left out")
    if dataset.skipped:
        path, reason = dataset.skipped[0]
        message = f"{num_skipped(dataset)} files skipped; the first: {path}: {reason}"
        print(message, file=sys.stderr)
    resume = args.resume or is_paused
    metrics = train(
        dataset,
        args.run_dir,
        **_settings(args, given, resume),
        resume=resume,
        session=session,
    )
    last = f"loss {metrics['loss'][-1]:.4f}, accuracy {metrics['accuracy'][-1]:.4f}"
    print(f"{args.run_dir}: {metrics['epochs_done']} epochs, {last}.")
    warn_if_mostly_skipped(dataset.skipped, dataset.paths, print)
    return 0


if __name__ == "__main__":
    sys.exit(main())
