"""Define what a user wants of labels, and check it against the model and the gallery."""

from __future__ import annotations

from dataclasses import dataclass

from data_io.progress import Log
from delf_ext.app.label_choice import METHODS, WITHOUT_LOGITS, Wanted
from delf_ext.config import require
from delf_ext.features.embedder import Adapted, AnyEmbedder, Ensemble
from delf_ext.features.logits import has_logits, networks_of, require_one_classifier
from delf_ext.recipes.label_parts import CHOOSE_ON, Labelling, Method
from delf_ext.recipes.part import AtLeast1, NotNegative, Positive, coerced


@dataclass(frozen=True)
class Request:
    """How labels are given.

    Attributes:
        wanted: what is settled; the rest is chosen.
        choose_on: labelled photographs to choose on: "gallery", "held_out" of the training of a
            run, "queries" of the data, or "auto".
        like: method and settings of an earlier call, which choose nothing.
    """

    wanted: Wanted = Wanted()
    choose_on: str = "auto"
    like: Labelling | None = None

    def __post_init__(self) -> None:
        wanted = self.wanted
        require(
            wanted.method is None or wanted.method in METHODS,
            f"--method must be one of {', '.join(METHODS)}. Received {wanted.method!r}.",
        )
        require(
            self.choose_on in CHOOSE_ON,
            f"--choose_on must be one of {', '.join(CHOOSE_ON)}. Received {self.choose_on!r}.",
        )
        for name, kind in (
            ("neighbours", AtLeast1),
            ("power", NotNegative),
            ("temperature", Positive),
        ):
            if getattr(wanted, name) is not None:
                coerced(getattr(wanted, name), kind, f"--{name}")
        for name in ("unknown_below", "precision"):
            value = getattr(wanted, name)
            require(
                value is None or 0 < value < 1,
                f"--{name} must be above 0 and below 1. Received {value}.",
            )
        require(
            wanted.unknown_below is None or wanted.precision is None,
            "--precision chooses --unknown_below: pass one of them.",
        )
        require(
            self.like is None or (wanted == Wanted() and self.choose_on == "auto"),
            "--like has method and settings: leave out --method, --neighbours, --power, "
            "--temperature, --unknown_below, --precision and --choose_on.",
        )


def request_of_recipe(model: AnyEmbedder, log: Log) -> Request:
    """Return the label rule of an ensemble's recipe; an empty request if it has none.

    Args:
        model: the model.
        log: called with a line if there is a rule.

    Returns:
        The request.
    """
    ensemble = model.base if isinstance(model, Adapted) else model
    vote = ensemble.label if isinstance(ensemble, Ensemble) else None
    if vote is None:
        return Request()
    if vote.logit_power and not has_logits(model):
        log("the vote of the recipe needs logits, and a member has no classifier: not used")
        return Request()
    log("labels are given by the vote of the recipe, not calibrated; --method gives another way")
    return Request(like=Labelling("lotte" if vote.logit_power else "vote", vote))


def methods_of(model: AnyEmbedder, request: Request) -> tuple[Method, ...]:
    """Return the methods to try.

    Args:
        model: the model.
        request: what the user wants.

    Returns:
        The methods; those that a product is made of come with it.

    Raises:
        UsageError: the model lacks a classifier, or its networks have different classes.
    """
    wanted = request.like.method if request.like is not None else request.wanted.method
    needs = request.like.uses_logits if request.like is not None else wanted in ("softmax", "lotte")
    if wanted in ("vote", "centres"):
        return (wanted,)
    if not has_logits(model):
        without = [one.name for one in networks_of(model) if one.with_logits is None]
        require(
            not needs,
            f"--method={wanted} needs a classifier, and {without[0]} has none: pass --run_dir of a "
            "run that was trained on classes, or --method=vote, centres or product.",
        )
        return WITHOUT_LOGITS if wanted is None else (wanted or "product",)
    require_one_classifier(model)
    if wanted is None:
        return METHODS
    return ("product", "softmax") if wanted == "product" else (wanted,)


def require_size(request: Request, num_gallery: int) -> None:
    """Raise UsageError if more images are to vote than the gallery has."""
    k = request.wanted.neighbours
    if k is None and request.like is not None and request.like.uses_vote:
        k = request.like.vote.neighbours
    require(
        k is None or k <= num_gallery,
        f"--neighbours={k}: the gallery has only {num_gallery} labelled photographs.",
    )
