"""`python -m baseline_keras --data=PATH`: train the official baseline."""

from __future__ import annotations

import argparse
import os
import sys

from baseline_keras import binding

EXAMPLES = """examples:
  python -m baseline_keras --data=photos --epochs=100 --run_dir=runs/baseline
  python -m baseline_keras --data=products.csv --image_size=96 --epochs=10 --run_dir=runs/small
  python -m baseline_keras --data=photos --run_dir=runs/baseline --resume     continue a run that was stopped
  nsml run -d ir_ph1_v2 -e baseline_keras --args "--epochs=5"                 on NSML, which says where the data lie

The run directory then holds recipe.json, facts.json, metrics/training.json, events for TensorBoard and checkpoint/;
`mandoo evaluate --run_dir=...` measures it."""


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1. Received {text}.")
    return value


def seed_number(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"must lie in 0..2**32-1. Received {text}.")
    return value


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m baseline_keras",
        description="The challenge's official Keras baseline: a small classifier whose last dense layer is the embedding.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    data_help = "class folders, a CSV path,label,split[,group], the challenge tree or the Grocery Store tree; NSML has its own"
    parser.add_argument(
        "--data", default=binding.DATASET_PATH or None, metavar="PATH", help=data_help
    )
    parser.add_argument(
        "--run_dir",
        default="runs/keras_baseline",
        metavar="DIR",
        help="where to write (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs",
        type=positive,
        default=100,
        metavar="N",
        help="times over the images (default: %(default)s)",
    )
    parser.add_argument(
        "--batch_size",
        type=positive,
        default=64,
        metavar="N",
        help="images per step (default: %(default)s)",
    )
    parser.add_argument(
        "--image_size",
        type=positive,
        default=224,
        metavar="PX",
        help="side of the input (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=seed_number,
        default=0,
        metavar="N",
        help="of weights, order, images (default: %(default)s)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --run_dir after its last finished epoch",
    )
    reserved = parser.add_argument_group("reserved by NSML")
    reserved.add_argument(
        "--mode", choices=("train", "test"), default="train", help="test: a submission"
    )
    reserved.add_argument("--iteration", default="0", help="the checkpoint that is loaded")
    reserved.add_argument(
        "--pause", type=int, default=0, help="1 when a checkpoint is to be loaded"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 1 with one line for what the data or the disk refuse; 2 (argparse) for wrong flags; 130 when interrupted."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.mode == "test" and not binding.IS_ON_NSML:
        parser.error("--mode=test is how `nsml submit` calls a session; there is none here")
    if not args.data and args.mode == "train":
        parser.error("the following arguments are required: --data")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # or it greets with three lines on CUDA
    from baseline_keras.session import Session
    from baseline_keras.training import (
        load_checked,
        train,
    )  # after the flags: --help must not wait for TensorFlow

    try:
        session = Session(args.run_dir, args.epochs) if binding.IS_ON_NSML else None
        if session and args.pause:
            binding.paused(scope={"session": session})
        if args.mode == "test":
            return 0
        dataset = load_checked(args.data)
        if dataset.skipped:
            path, reason = dataset.skipped[0]
            print(
                f"{len(dataset.skipped)} files left out; the first: {path}: {reason}",
                file=sys.stderr,
            )
        metrics = train(
            dataset,
            args.run_dir,
            epochs=args.epochs,
            batch_size=args.batch_size,
            image_size=args.image_size,
            seed=args.seed,
            resume=args.resume or bool(session and args.pause),
            session=session,
        )
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped. Continue with --resume --run_dir={args.run_dir}", file=sys.stderr)
        return 130
    last = f"loss {metrics['loss'][-1]:.4f}, accuracy {metrics['accuracy'][-1]:.4f}"
    print(f"{args.run_dir}: {metrics['epochs_done']} epochs, {last}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
