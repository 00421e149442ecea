"""Runs of the first format (`config.json`): opened as they are, nothing is rewritten."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_io.artifacts import read_json
from data_io.checkpoint_folder import readable_prefix
from delf_ext.recipes import codec, mandoo_dual
from delf_ext.recipes.original_flags import ORIGINAL_FLAGS
from delf_ext.runs.records import Facts, Run

if TYPE_CHECKING:
    from delf_ext.models.embedding_model import EmbeddingModel

# The first format called heads' layers by their attributes.
LAYERS = {
    "attention/hidden": "attention/conv1",
    "attention/score": "attention/conv2",
    "similarity/hidden": "similarity/dense1",
    "similarity/output_layer": "similarity/dense2",
}
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
TRUNK = "network/backbone/_tf1_style_var_store/_vars/"
HEADS = "network/heads/"


def upgrade(path: Path) -> Run:
    """Return a run of the first format as one of today's.

    Raises:
        ValueError: naming the file when config.json is damaged or of another system.
    """
    file = path / "config.json"
    values = read_json(file)
    system = values.get("system") if isinstance(values, dict) else None
    try:
        if system == "keras_baseline":
            facts = Facts(
                data=values["data"],
                class_names=values["class_names"],
                settings={"seed": values["seed"]},
            )
            kept = {
                name: values[name] for name in ("image_size", "num_classes", "epochs", "batch_size")
            }
            return Run(path, system, kept, facts, is_old=True)
        if system != "dual_head":
            raise ValueError(f"system is {system!r}")
        recipe = mandoo_dual.from_flags(_flags(values))
        settings = {name: values[name] for name in ("seed", "deterministic", "mixed_precision")}
        weights = values["pretrained_model"]
        facts = Facts(
            values["data"], class_names=values["class_names"], weights=weights, settings=settings
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: not a run's configuration ({error}).") from None
    return Run(path, "recipe", codec.to_json(recipe), facts, is_old=True)


def _flags(values: dict[str, Any]) -> dict[str, Any]:
    """Return the original's flags of a first-format configuration: its keys are their names."""
    model, loss, training = values["model"], values["loss"], values["training"]
    own = {name: value for name, value in values.items() if name in ORIGINAL_FLAGS}
    augmentation = {name: True for name in training["augmentation"]}
    return {
        **own,
        **model,
        **loss,
        **training,
        "resnet_type": model["endpoint"],
        "augmentation": bool(augmentation),
        **augmentation,
    }


def old_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a first-format run, best before last; None without any."""
    for kind in ("best", "last"):
        note = folder / kind / "checkpoint"
        if note.is_file():
            found = re.search(r'^model_checkpoint_path: "(.*)"', note.read_text(), re.MULTILINE)
            if found:
                return folder / kind / Path(found[1]).name
    return None


def new_name(key: str) -> str | None:
    """Return today's parameter name for a key of a first-format checkpoint; None for what is no weight."""
    if (
        not key.startswith(("network/backbone/", HEADS))
        or not key.endswith(VALUE)
        or "/.OPTIMIZER_SLOT" in key
    ):
        return None
    name = key.removesuffix(VALUE)
    if name.startswith(TRUNK):
        return name.removeprefix(TRUNK).replace(".S", "/")
    layer, _, role = name.removeprefix(HEADS).rpartition("/")
    return f"{LAYERS.get(layer, layer)}/{role}"


def load_old_weights(model: EmbeddingModel, path: Path) -> None:
    """Load a checkpoint of the first format into a built model. Raises: ValueError when it is damaged or does not fit."""
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(readable_prefix(path))
        keys = {
            name: key
            for key in reader.get_variable_to_shape_map()
            if (name := new_name(key)) is not None
        }
        variables = model.named_variables()
        missing = sorted(set(variables) - set(keys))
        if missing:
            raise ValueError(f"it has no {missing[0]}")
        values = {name: reader.get_tensor(keys[name]) for name in variables}
        for name, variable in variables.items():
            variable.assign(values[name])
    except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(
            f"{path}: damaged, or of another network than config.json ({reason})."
        ) from None
