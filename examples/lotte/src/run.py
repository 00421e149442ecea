"""Train one network of the Lotte winner on the competition's data, or continue its training.

    python run.py -C conf_1_nf0     one of ten: conf_1 to conf_5, conf_1_nf0 to conf_5_nf0
    python run.py -C lite2_1        on other networks: lite2_1 to lite2_5, resnet_1 to resnet_5
    python run.py -C conf_1 --trunk=lite0 --image_size=64 --epochs=1        a quick trial

The run is kept in model/NAME; ../notebook/infer.ipynb joins all runs there. The same command
continues a training that was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import delf_ext as mandoo
from delf_ext.app.training_settings import Settings
from delf_ext.recipes.changes import changed_settings, with_epochs
from delf_ext.recipes.codec import with_settings
from delf_ext.recipes.members import Planned, planned
from delf_ext.recipes.schema import Recipe
from delf_ext.recipes.trunk_names import LITE, absolute_weights, trunk_named
from delf_ext.runs.recipe_run import recipe_of as recipe_of_run
from delf_ext.runs.run_directory import read_run

HERE = Path(__file__).resolve().parent.parent


def configurations() -> Iterator[tuple[str, Planned]]:
    """Yield (name, training of one fold): fold 1 of the member conf_nf0 is conf_1_nf0."""
    for name in ("lotte_winner", "lotte_winner_here"):
        recipe = mandoo.recipes.RECIPES[name]
        for model in planned(recipe):
            network, *rest = recipe.members[model.member].name.split("_")
            yield "_".join([network, str(model.fold + 1), *rest]), model


CONFIGURATIONS = dict(configurations())


def options_of(arguments: list[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-C", "--config", required=True, choices=CONFIGURATIONS, metavar="NAME")
    parser.add_argument("--data", default=HERE / "data", help="the competition's tree (../data)")
    parser.add_argument("--model", default=HERE / "model", type=Path, help="folder of the runs")
    parser.add_argument("--weights", default="", help="pretrained weights of the trunk, a file")
    parser.add_argument("--trunk", help="another trunk, such as lite0, or lite0/block5")
    parser.add_argument("--image_size", type=int, help="side of the images in pixels (448)")
    parser.add_argument("--epochs", type=int, help="number of epochs (30)")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    return parser.parse_args(arguments)


def changed(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """Return a recipe with the changes of the options."""
    if options.trunk:
        trunk = trunk_named(options.trunk)
        name = options.trunk.partition("/")[0]
        trunk = dataclasses.replace(trunk, weights=name if name in LITE else "")
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, trunk=trunk))
    if options.image_size is not None:
        recipe = with_settings(recipe, [f"input.size_px={options.image_size}"])
    if options.epochs is not None:
        recipe = with_settings(recipe, ["stages.0.schedule.warmup_epochs=0"] * (options.epochs < 2))
        recipe = with_epochs(recipe, options.epochs)
    return with_settings(recipe, options.set)


def require_same(run_dir: Path, options: argparse.Namespace) -> None:
    """Refuse options that a run was not started with, except for the number of epochs."""
    run = read_run(run_dir)
    stored = recipe_of_run(run)
    wanted = changed(stored, argparse.Namespace(**{**vars(options), "epochs": None}))
    decided = ("model.trunk.layout:", "model.trunk.weights:")
    lines = [line for line in changed_settings(stored, wanted) if not line.startswith(decided)]
    if options.weights and absolute_weights(options.weights) != absolute_weights(run.facts.weights):
        lines.append(f"weights: {run.facts.weights or 'those of the recipe'} -> {options.weights}")
    if lines:
        raise mandoo.UsageError(
            f"{run_dir} was started with other settings ({lines[0]}). Leave --trunk, --image_size, "
            "--weights and --set out to continue it, or pass another folder as --model."
        )


def train(options: argparse.Namespace) -> None:
    """Train the configuration, or continue its run."""
    planned_one = CONFIGURATIONS[options.config]
    run_dir = options.model / options.config
    if (run_dir / "recipe.json").exists():
        require_same(run_dir, options)
        place = str(Path(options.data).absolute())
        data = mandoo.load_dataset(place)
        mandoo.resume(run_dir, epochs=options.epochs, data=data, data_path=place, log=print)
        return
    recipe = changed(planned_one.recipe, options)
    settings = Settings(seed=planned_one.seed)
    weights = options.weights
    mandoo.train(recipe, options.data, run_dir, weights=weights, settings=settings, log=print)


def main(arguments: list[str]) -> None:
    """Run the command; an error is one line."""
    options = options_of(arguments)
    try:
        train(options)
    except KeyboardInterrupt:
        print("stopped; the same command continues.", file=sys.stderr)
        raise SystemExit(130) from None
    except (ValueError, OSError) as error:
        print(f"{'usage ' * isinstance(error, mandoo.UsageError)}error: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, mandoo.UsageError) else 1) from None


if __name__ == "__main__":
    main(sys.argv[1:])
