"""Who may import whom (DESIGN, section 2), held over the syntax trees; nothing is executed but the last test's subprocess."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGES = ("data_io", "delf_ext", "baseline_keras", "pretrained")
TENSORFLOW = ("tensorflow", "tf_slim", "tensorflow_addons", "keras", "tf_keras")

# What a module may import beside the standard library, and what only inside a function; the longest name that fits decides.
# A name stands for itself and all below it. Neither dual_main nor tests stands on the right.
RECORDS = "data_io.records data_io.artifacts data_io.images delf_ext.config delf_ext.compiled numpy scipy numba PIL tqdm"
EVERYTHING = "data_io delf_ext baseline_keras pretrained numpy tqdm PIL"
SCHEMA = "delf_ext.recipes.part delf_ext.recipes.schema delf_ext.recipes.codec"
BELOW_RUNS = f"data_io pretrained delf_ext.config {SCHEMA} delf_ext.models delf_ext.features delf_ext.index delf_ext.geometry"
BELOW_RUNS += " delf_ext.reranking delf_ext.evaluation numpy PIL"
RULES: dict[str, tuple[str, str]] = {
    "data_io": ("data_io numpy PIL scipy tqdm", "h5py"),
    "data_io.records": ("data_io.records numpy", ""),
    "data_io.batches": ("data_io numpy tensorflow", ""),
    "delf_ext": ("", "delf_ext data_io"),
    "delf_ext.config": ("", ""),
    "delf_ext.compiled": ("numba", ""),
    "delf_ext.recipes": ("delf_ext.recipes delf_ext.config", ""),
    "delf_ext.models": (
        f"delf_ext.models delf_ext.config {SCHEMA} data_io numpy tensorflow",
        "keras_cv_attention_models",
    ),
    "delf_ext.models.precision": ("", "tensorflow"),
    "delf_ext.models.slim_compat": ("tf_slim keras", ""),
    "delf_ext.losses": (f"delf_ext.losses delf_ext.config {SCHEMA} tensorflow", ""),
    "delf_ext.losses.triplet": (
        f"delf_ext.losses delf_ext.config {SCHEMA} tensorflow",
        "tensorflow_addons",
    ),
    "delf_ext.training": (
        f"delf_ext.training delf_ext.models delf_ext.losses delf_ext.config {SCHEMA} data_io numpy tensorflow tqdm",
        "",
    ),
    "delf_ext.features": (
        f"delf_ext.features delf_ext.models delf_ext.config delf_ext.compiled {SCHEMA} data_io numpy tensorflow tqdm PIL",
        "cv2 openvino onnxruntime nncf",
    ),
    "delf_ext.index": (f"delf_ext.index {RECORDS}", "faiss pymilvus"),
    "delf_ext.geometry": (f"delf_ext.geometry delf_ext.index {RECORDS}", "cv2"),
    "delf_ext.reranking": (f"delf_ext.reranking delf_ext.geometry delf_ext.index {RECORDS}", "cv2"),
    "delf_ext.evaluation": (
        f"delf_ext.evaluation delf_ext.reranking delf_ext.geometry delf_ext.index {RECORDS}",
        "matplotlib",
    ),
    "delf_ext.pipeline": (
        "delf_ext.features delf_ext.index delf_ext.geometry delf_ext.reranking delf_ext.evaluation delf_ext.config data_io numpy "
        "delf_ext.recipes.schema",
        "",
    ),
    "delf_ext.runs": (f"delf_ext.runs delf_ext.recipes {BELOW_RUNS}", "tensorflow"),
    "delf_ext.app": (
        f"delf_ext.app delf_ext.runs delf_ext.recipes delf_ext.pipeline delf_ext.training {BELOW_RUNS}",
        "tensorflow",
    ),
    "delf_ext.nsml": ("data_io delf_ext numpy psutil tabulate tqdm wcwidth", "nsml tensorboard"),
    "delf_ext.web": (f"delf_ext.web {EVERYTHING}", "fastapi starlette uvicorn jinja2 multipart"),
    "delf_ext.verbs": (f"{EVERYTHING} absl", ""),
    "dual_main": ("delf_ext.verbs delf_ext.config absl", ""),
    "baseline_keras": (
        "baseline_keras data_io delf_ext.config delf_ext.runs delf_ext.features numpy tensorflow tqdm",
        "",
    ),
    "baseline_keras.binding": ("nsml", ""),
    "pretrained": ("pretrained data_io.artifacts numpy tqdm", "tensorflow h5py safetensors"),
}
# From the lowest floor up: a folder imports from itself and from folders below it, never from one above, not even lazily.
FLOORS = (
    ("data_io", "delf_ext.config", "delf_ext.compiled"),
    ("delf_ext.recipes", "pretrained"),
    ("delf_ext.models",),
    ("delf_ext.losses", "delf_ext.index"),
    ("delf_ext.training", "delf_ext.geometry", "delf_ext.features"),
    ("delf_ext.reranking",),
    ("delf_ext.evaluation",),
    ("delf_ext.pipeline",),
    ("delf_ext.runs",),
    ("baseline_keras",),
    ("delf_ext.app",),
    ("delf_ext.nsml", "delf_ext.web"),
    ("delf_ext.verbs",),
    ("dual_main",),
)
# Only these may know the recipes by name.
REGISTRY, KNOW_THE_REGISTRY = (
    "delf_ext.recipes.registry",
    ("delf_ext.app", "delf_ext.runs", "delf_ext.verbs", "delf_ext.recipes"),
)
# And what only one module may know.
KNOWN_ONLY_TO = {"delf_ext.models.slim_compat": "delf_ext.models.trunks.slim"}
# Nothing of these may reach TensorFlow while it is imported, not even through others.
IMPORTED_QUICKLY = (
    "delf_ext.config",
    "delf_ext.recipes",
    "delf_ext.index",
    "delf_ext.geometry",
    "delf_ext.reranking",
)
IMPORTED_QUICKLY += (
    "delf_ext.evaluation",
    "delf_ext.verbs",
    "delf_ext.nsml",
    "delf_ext.web",
    "dual_main",
    "pretrained",
)
IMPORTED_QUICKLY += (
    "delf_ext.pipeline",
    "delf_ext.runs",
    "delf_ext.app",
    "delf_ext.features.local.delf_config",
    "delf_ext.features.local.sift",
    "delf_ext.features.embedder",
    "delf_ext.features.network_embedders",
)


class Import(NamedTuple):
    """One imported name; inside_function: it is imported when the function runs, not with its module."""

    name: str
    line: int
    inside_function: bool


def sources_below(root: Path) -> dict[str, str]:
    """Dotted name -> source, of all packages and the front door."""
    files = [
        root / "dual_main.py",
        *(path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))),
    ]
    names = [
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for path in files
    ]
    return {name: path.read_text(encoding="utf-8") for name, path in zip(names, files, strict=True)}


def imports_of(source: str) -> Iterator[Import]:
    """`from a import b` counts as a.b: only the tree knows whether b is a module, and a rule for `a` allows a.b too."""

    def visit(node: ast.AST, inside: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = "." * child.level + (child.module or "")
                yield from (
                    Import(f"{base}.{alias.name}", child.lineno, inside) for alias in child.names
                )
            later = isinstance(
                child, (ast.FunctionDef, ast.AsyncFunctionDef)
            ) or _is_for_types_alone(child)
            yield from visit(child, inside or later)

    return visit(ast.parse(source), False)


def _is_for_types_alone(node: ast.AST) -> bool:
    """Whether it is `if TYPE_CHECKING:`, which does not run."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def is_below(name: str, *tops: str) -> bool:
    return any(name == top or name.startswith(f"{top}.") for top in tops)


def violations(module: str, source: str) -> list[str]:
    """One line for every import of `module` that the tables forbid."""
    fitting = [prefix for prefix in RULES if is_below(module, prefix)]
    if not fitting:
        return [f"{module}: no rule says what it may import"]
    always, inside_functions = (allowed.split() for allowed in RULES[max(fitting, key=len)])
    found = []
    for name, line, inside in imports_of(source):
        allowed = always + inside_functions if inside else always
        if name.split(".")[0] not in sys.stdlib_module_names and not is_below(name, *allowed):
            found.append(
                f"{module}, line {line}: may not import {name}; it may {', '.join(allowed) or 'import nothing of ours'}"
            )
        for known, knowing in KNOWN_ONLY_TO.items():
            if is_below(name, known) and module != knowing:
                found.append(f"{module}, line {line}: {known} is known only to {knowing}")
    return found


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Module -> what it imports while it is imported: our modules, and the outermost names of others."""
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        names = [name for name, _, inside in imports_of(source) if not inside]
        ours = [name if name in sources else name.rpartition(".")[0] for name in names]
        graph[module] = {
            mine if mine in sources else name.split(".")[0]
            for mine, name in zip(ours, names, strict=True)
        }
    return graph


def find_cycle(sources: dict[str, str]) -> list[str]:
    """A circle of modules that import each other when they are imported, first and last the same; empty without one."""
    try:
        graphlib.TopologicalSorter(import_graph(sources)).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def way_to_tensorflow(module: str, graph: dict[str, set[str]]) -> list[str]:
    """The modules through which importing `module` imports TensorFlow, ending with it; empty where it does not."""
    ways, seen = [[module]], {module}
    for way in ways:
        if way[-1] in TENSORFLOW:
            return way
        following = graph.get(way[-1], set()) - seen
        seen |= following
        ways += [[*way, name] for name in sorted(following)]
    return []


def loaded_tensorflow(imports: str, path: Path) -> str:
    """Which of TENSORFLOW a fresh interpreter has loaded after `imports`, with `path` in front of its search path."""
    report = f"print(*(name for name in {TENSORFLOW} if name in sys.modules))"
    code = f"import sys; sys.path.insert(0, {str(path)!r}); {imports}; {report}"
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


# --- the tree


def test_every_module_imports_only_what_it_may(root: Path) -> None:
    sources = sources_below(root)
    assert {
        "data_io.records",
        "delf_ext",
        "delf_ext.index.exact",
        "baseline_keras.__main__",
        "dual_main",
    } <= sources.keys()
    found = [line for module, source in sources.items() for line in violations(module, source)]
    assert not found, "\n".join(found)


def floor_of(module: str) -> tuple[int, str] | None:
    """Return the floor and the folder of a module of ours; None for the package `delf_ext` itself, and for others."""
    for number, folders in enumerate(FLOORS):
        for folder in folders:
            if is_below(module, folder):
                return number, folder
    return None


def arrows_up(sources: dict[str, str]) -> list[str]:
    """Return one line for each import, lazy ones too, that does not lead to the same folder or a floor below."""
    found = []
    for module, source in sources.items():
        own = floor_of(module)
        for name, line, _ in imports_of(source):
            other = floor_of(name)
            if own and other and own != other and other[0] >= own[0]:
                found.append(f"{module}, line {line}: {other[1]} is not below {own[1]}")
            if is_below(name, REGISTRY) and not is_below(module, *KNOW_THE_REGISTRY):
                found.append(f"{module}, line {line}: may not know the registry of recipes")
    return found


def test_no_import_leads_up(root: Path) -> None:
    sources = sources_below(root)
    placed = [module for module in sources if floor_of(module)]
    assert len(placed) == len(sources) - 1, (
        "each folder has a floor; only the package delf_ext itself has none"
    )
    found = arrows_up(sources)
    assert not found, "\n".join(found)


def test_a_planted_arrow_up_is_found() -> None:
    sources = {
        "delf_ext.runs.opening": "def f():\n    from delf_ext.app import training",
        "delf_ext.training.loop": "from delf_ext.recipes.registry import RECIPES",
        "delf_ext.app.data": "from delf_ext.runs.opening import quiet\nfrom delf_ext.app import training",
    }
    assert arrows_up(sources) == [
        "delf_ext.runs.opening, line 2: delf_ext.app is not below delf_ext.runs",
        "delf_ext.training.loop, line 1: may not know the registry of recipes",
    ]


def test_no_circle_of_imports(root: Path) -> None:
    assert find_cycle(sources_below(root)) == []


def test_search_and_metrics_reach_no_tensorflow_through_others(root: Path) -> None:
    graph = import_graph(sources_below(root))
    quick = [module for module in graph if is_below(module, *IMPORTED_QUICKLY)]
    quick += [
        module for module in graph if is_below(module, "data_io") and module != "data_io.batches"
    ]
    ways = [" -> ".join(way) for module in quick if (way := way_to_tensorflow(module, graph))]
    assert not ways, "\n".join(ways)


def test_no_utils(root: Path) -> None:
    found = [name for name in sources_below(root) if {"utils", "util"} & set(name.split("."))]
    assert not found, f"{found}: say in the name what it does"


def test_help_search_and_metrics_do_without_tensorflow(root: Path) -> None:
    imports = (
        "import dual_main, delf_ext.index.exact, delf_ext.evaluation.metrics; dual_main.help_text()"
    )
    assert loaded_tensorflow(imports, root) == ""


# --- the tables and the checker


def test_tensorflow_stays_behind_its_wall() -> None:
    """The table itself: at module level only there, inside functions only in two more places."""
    at_import = {
        unit for unit, (always, _) in RULES.items() if set(TENSORFLOW) & set(always.split())
    }
    inside = {unit for unit, (_, lazily) in RULES.items() if "tensorflow" in lazily.split()}
    behind = (
        "data_io.batches",
        "delf_ext.models",
        "delf_ext.losses",
        "delf_ext.training",
        "delf_ext.features",
        "baseline_keras",
    )
    assert {unit for unit in at_import if not is_below(unit, *behind)} == set()
    assert inside == {"delf_ext.models.precision", "delf_ext.runs", "delf_ext.app", "pretrained"}
    knows = {
        name: [unit for unit, rule in RULES.items() if name in " ".join(rule).split()]
        for name in TENSORFLOW[1:3]
    }
    assert knows == {
        "tf_slim": ["delf_ext.models.slim_compat"],
        "tensorflow_addons": ["delf_ext.losses.triplet"],
    }


@pytest.mark.parametrize(
    ("module", "source", "forbidden"),
    [
        (
            "data_io.records",
            "from data_io.artifacts import digest_of",
            "data_io.artifacts.digest_of",
        ),
        ("data_io.images", "def f():\n    import tensorflow as tf", "tensorflow"),
        ("data_io.images", "from delf_ext.config import RunConfig", "delf_ext.config.RunConfig"),
        ("data_io.images", "from data_io_more import x", "data_io_more.x"),
        ("delf_ext.config", "import numpy as np", "numpy"),
        ("delf_ext.config", "from . import pipeline", "..pipeline"),
        ("delf_ext.something_new", "from delf_ext import config", "delf_ext.config"),
        ("delf_ext.losses.pairs", "import numpy", "numpy"),
        (
            "delf_ext.losses.pairs",
            "from delf_ext.recipes import registry",
            "delf_ext.recipes.registry",
        ),
        ("delf_ext.losses.pairs", "import tensorflow_addons as tfa", "tensorflow_addons"),
        ("delf_ext.models.trunks.slim", "from tf_slim.nets import vgg", "tf_slim.nets.vgg"),
        (
            "delf_ext.models.heads",
            "from delf_ext.losses.pairs import SCALE",
            "delf_ext.losses.pairs.SCALE",
        ),
        ("delf_ext.features.extraction", "from delf_ext import training", "delf_ext.training"),
        (
            "delf_ext.index.exact",
            "class A:\n    def f(self):\n        import keras.layers",
            "keras.layers",
        ),
        (
            "delf_ext.index.exact",
            "from delf_ext.geometry import ransac",
            "delf_ext.geometry.ransac",
        ),
        ("delf_ext.index.exact", "import faiss", "faiss"),
        (
            "delf_ext.evaluation.metrics",
            "from data_io.batches import image_batches",
            "data_io.batches.image_batches",
        ),
        (
            "delf_ext.pipeline",
            "from delf_ext.models.heads import Heads",
            "delf_ext.models.heads.Heads",
        ),
        ("delf_ext.verbs.train", "if True:\n    import tensorflow as tf", "tensorflow"),
        ("delf_ext.verbs.train", "def f():\n    import dual_main", "dual_main"),
        ("baseline_keras.training", "from delf_ext.app import training", "delf_ext.app.training"),
        (
            "pretrained.convert",
            "try:\n    import tensorflow\nexcept ImportError:\n    pass",
            "tensorflow",
        ),
        ("dual_main", "from tests.conftest import ROOT", "tests.conftest.ROOT"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str, forbidden: str) -> None:
    (found,) = violations(module, f'"""Docstring."""\n{source}\n')
    assert found.startswith(f"{module}, line ") and f"may not import {forbidden};" in found


def test_what_is_allowed_is_not_found() -> None:
    lazily = "import os.path\nimport numpy as np\nfrom data_io import splits\n\n\ndef f():\n    import tensorflow as tf\n"
    assert violations("delf_ext.app.training", lazily) == []
    assert (
        violations(
            "delf_ext.evaluation.report", "from delf_ext.reranking.chain import run\nimport numba"
        )
        == []
    )
    assert violations("delf_ext.index.approximate", "def f():\n    import faiss") == []


def test_one_file_knows_tf_slim_and_one_addons() -> None:
    assert (
        violations(
            "delf_ext.models.slim_compat", "import tf_slim as slim\nfrom tf_slim.nets import vgg"
        )
        == []
    )
    assert (
        violations("delf_ext.models.trunks.slim", "from delf_ext.models.slim_compat import slim")
        == []
    )
    assert violations("delf_ext.models.heads", "from delf_ext.models.slim_compat import slim") == [
        "delf_ext.models.heads, line 1: delf_ext.models.slim_compat is known only to delf_ext.models.trunks.slim"
    ]
    assert (
        violations("delf_ext.losses.triplet", "def f():\n    import tensorflow_addons as tfa") == []
    )


def test_a_module_without_a_rule_is_found() -> None:
    assert violations("elsewhere.thing", "") == ["elsewhere.thing: no rule says what it may import"]


def test_a_planted_circle_is_found_and_a_lazy_one_is_none() -> None:
    sources = {
        "p": "",
        "p.a": "from p.b import x",
        "p.b": "import os\nfrom p import c",
        "p.c": "import p.a",
    }
    assert sorted(set(find_cycle(sources))) == ["p.a", "p.b", "p.c"]
    assert find_cycle({**sources, "p.c": "def f():\n    import p.a"}) == []


def test_a_planted_way_to_tensorflow_is_found() -> None:
    sources = {
        "q": "import p.a",
        "p.a": "import numpy\nfrom p import b",
        "p.b": "import tensorflow.keras as k",
        "p": "",
    }
    graph = import_graph(sources)
    assert way_to_tensorflow("q", graph) == ["q", "p.a", "p.b", "tensorflow"]
    assert way_to_tensorflow("p", graph) == []


def test_a_loaded_tensorflow_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("")
    assert loaded_tensorflow("import tensorflow", tmp_path) == "tensorflow"
