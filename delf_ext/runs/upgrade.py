"""Read runs of format 1, which have config.json instead of recipe.json, without changing them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_io.checkpoint_folder import readable_prefix
from data_io.files.artifacts import read_json
from data_io.finite import require_finite
from delf_ext.recipes import codec, mandoo_dual
from delf_ext.recipes.original_flags import ORIGINAL_FLAGS
from delf_ext.runs.records import Facts, Run

if TYPE_CHECKING:
    from delf_ext.models.embedding_model import EmbeddingModel

LAYERS = {
    "attention/hidden": "attention/conv1",
    "attention/score": "attention/conv2",
    "similarity/hidden": "similarity/dense1",
    "similarity/output_layer": "similarity/dense2",
}
"""Name of a head's layer in format 1 -> its name now."""
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
TRUNK = "network/backbone/_tf1_style_var_store/_vars/"
HEADS = "network/heads/"


def upgrade(path: Path) -> Run:
    """Read a run of format 1.

    Args:
        path: the run directory.

    Returns:
        The run; `is_old` is True.

    Raises:
        ValueError: config.json is damaged or of another system.
    """
    file = path / "config.json"
    values = read_json(file)
    system = values.get("system") if isinstance(values, dict) else None
    try:
        if system == "keras_baseline":
            return _baseline_run(path, values)
        if system == "dual_head":
            return _recipe_run(path, values)
        raise ValueError(f"system is {system!r}")
    except (KeyError, TypeError, ValueError) as error:
        reason = str(error).removesuffix(".")
        raise ValueError(f"{file}: not the configuration of a run ({reason}).") from None


def _baseline_run(path: Path, values: dict[str, Any]) -> Run:
    facts = Facts(
        data=values["data"],
        class_names=values["class_names"],
        settings={"seed": values["seed"]},
    )
    names = ("image_size", "num_classes", "epochs", "batch_size")
    settings = {name: values[name] for name in names}
    return Run(path, "keras_baseline", settings, facts, is_old=True)


def _recipe_run(path: Path, values: dict[str, Any]) -> Run:
    recipe = mandoo_dual.from_flags(_flags(values))
    settings = {name: values[name] for name in ("seed", "deterministic", "mixed_precision")}
    facts = Facts(
        data=values["data"],
        class_names=values["class_names"],
        weights=values["pretrained_model"],
        settings=settings,
    )
    return Run(path, "recipe", codec.to_json(recipe), facts, is_old=True)


def _flags(values: dict[str, Any]) -> dict[str, Any]:
    """Return the 2018 original's flags: the keys of config.json have the names of the flags."""
    model = values["model"]
    training = values["training"]
    top_level = {name: value for name, value in values.items() if name in ORIGINAL_FLAGS}
    changes = dict.fromkeys(training["augmentation"], True)
    return {
        **top_level,
        **model,
        **values["loss"],
        **training,
        "resnet_type": model["endpoint"],
        "augmentation": bool(changes),
        **changes,
    }


def old_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a run of format 1, the best before the last.

    Args:
        folder: the checkpoint folder of the run.

    Returns:
        Path prefix of the checkpoint, or None if there is none.
    """
    for kind in ("best", "last"):
        state = folder / kind / "checkpoint"
        if state.is_file():
            line = re.search(r'^model_checkpoint_path: "(.*)"', state.read_text(), re.MULTILINE)
            # The file may hold a path of another machine, so only the name is used.
            if line:
                return folder / kind / Path(line[1]).name
    return None


def new_name(key: str) -> str | None:
    """Return the present name of a parameter.

    Args:
        key: key in a checkpoint of format 1.

    Returns:
        The name, or None if the key is not of a weight.
    """
    is_network = key.startswith(("network/backbone/", HEADS))
    if not is_network or not key.endswith(VALUE) or "/.OPTIMIZER_SLOT" in key:
        return None
    name = key.removesuffix(VALUE)
    if name.startswith(TRUNK):
        return name.removeprefix(TRUNK).replace(".S", "/")
    layer, _, role = name.removeprefix(HEADS).rpartition("/")
    return f"{LAYERS.get(layer, layer)}/{role}"


def load_old_weights(model: EmbeddingModel, path: Path) -> None:
    """Load a checkpoint of format 1 into a built model.

    Args:
        model: a built model.
        path: path prefix of the checkpoint.

    Raises:
        ValueError: the checkpoint is damaged, does not fit the model, or has numbers that are not
            finite.
    """
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(readable_prefix(path))
        keys = {new_name(key): key for key in reader.get_variable_to_shape_map()}
        variables = model.named_variables()
        missing = sorted(set(variables) - set(keys))
        if missing:
            raise ValueError(f"it has no {missing[0]}")
        # All values are read before the first is assigned: a damaged file changes no variable.
        values = {name: reader.get_tensor(keys[name]) for name in variables}
        for name, variable in variables.items():
            variable.assign(values[name])
    except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(
            f"{path}: damaged, or of another network than config.json ({reason})."
        ) from None
    require_finite(path, ((name, one.numpy()) for name, one in model.named_variables().items()))
