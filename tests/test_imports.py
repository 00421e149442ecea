"""Check which module may import which, on the syntax trees of all sources.

Three tables hold the rules: ALLOWED (what each module may import), LAYERS (the order of the
folders) and WITHOUT_TENSORFLOW (what must be importable without TensorFlow). Tests after them
check the rules on the repository, then that the checks find a violation.
"""

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

# Short names for lists of modules in the table below.
GROUPS = {
    "ALL_PACKAGES": "data_io delf_ext baseline_keras pretrained numpy tqdm PIL",
    "CONFIG": "delf_ext.config delf_ext.recipes.part delf_ext.recipes.schema "
    "delf_ext.recipes.codec",
    "RECORDS": "data_io.records data_io.files data_io.directions "
    "data_io.images delf_ext.config delf_ext.compiled numpy scipy numba PIL tqdm",
    "RETRIEVAL": "delf_ext.index delf_ext.geometry delf_ext.reranking delf_ext.evaluation",
    "BELOW_RUNS": "data_io pretrained CONFIG delf_ext.models delf_ext.features RETRIEVAL numpy PIL",
}
# Each line: a module, what it may import, and after "|" what it may import only inside functions.
# The standard library is always allowed. A module stands for all modules below it. If several
# lines fit a module, the longest name applies.
TABLE = """
data_io                      data_io numpy PIL scipy tqdm filelock | h5py pillow_heif
data_io.records              data_io.records data_io.files.contents numpy
data_io.batches              data_io numpy tensorflow
delf_ext                     | delf_ext data_io
delf_ext.config
delf_ext.compiled            numba
delf_ext.recipes             delf_ext.recipes delf_ext.config
delf_ext.recipes.trunk_names delf_ext.recipes delf_ext.config pretrained.keras_networks
delf_ext.models              delf_ext.models CONFIG data_io pretrained numpy tensorflow \
                             | keras_cv_attention_models
delf_ext.models.precision    | tensorflow
delf_ext.models.slim_compat  tf_slim keras
delf_ext.losses              delf_ext.losses CONFIG tensorflow
delf_ext.losses.triplet      delf_ext.losses CONFIG tensorflow | tensorflow_addons
delf_ext.training            delf_ext.training delf_ext.models delf_ext.losses CONFIG data_io \
                             numpy tensorflow tqdm
delf_ext.features            delf_ext.features delf_ext.models delf_ext.compiled CONFIG data_io \
                             numpy tensorflow tqdm PIL | cv2 openvino onnxruntime nncf
delf_ext.features.reductions delf_ext.features.reductions CONFIG data_io numpy scipy
delf_ext.index               delf_ext.index RECORDS | faiss pymilvus
delf_ext.geometry            delf_ext.geometry delf_ext.index RECORDS | cv2
delf_ext.reranking           delf_ext.reranking delf_ext.geometry delf_ext.index RECORDS | cv2
delf_ext.evaluation          RETRIEVAL RECORDS tabulate | matplotlib
delf_ext.pipeline            delf_ext.features RETRIEVAL delf_ext.config delf_ext.recipes.schema \
                             data_io numpy
delf_ext.runs                delf_ext.runs delf_ext.recipes BELOW_RUNS | tensorflow
delf_ext.app                 delf_ext.app delf_ext.runs delf_ext.recipes delf_ext.pipeline \
                             delf_ext.training BELOW_RUNS | tensorflow
delf_ext.app.demo            delf_ext.app delf_ext.runs delf_ext.recipes BELOW_RUNS \
                             | baseline_keras
delf_ext.nsml                data_io delf_ext numpy psutil tabulate tqdm wcwidth | nsml tensorboard
delf_ext.web                 delf_ext.web ALL_PACKAGES | fastapi starlette uvicorn jinja2 multipart
delf_ext.verbs               ALL_PACKAGES absl
dual_main                    data_io.messages data_io.files data_io.decoding.pixel_limit \
                             delf_ext.verbs \
                             delf_ext.config absl
baseline_keras               baseline_keras data_io delf_ext.config delf_ext.runs \
                             delf_ext.features delf_ext.training.finite numpy tensorflow tqdm
baseline_keras.binding       nsml
pretrained                   pretrained data_io.files data_io.finite data_io.messages \
                             data_io.weight_kinds numpy \
                             tabulate tqdm \
                             | tensorflow h5py safetensors
"""

# From the lowest layer to the highest. A folder imports only from itself and from lower layers,
# inside functions too.
LAYERS = (
    ("data_io", "delf_ext.config", "delf_ext.compiled"),
    ("pretrained",),
    ("delf_ext.recipes",),
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
# Only these folders may import the list of all recipes: the others get a recipe as an argument.
REGISTRY = "delf_ext.recipes.registry"
MAY_IMPORT_REGISTRY = ("delf_ext.app", "delf_ext.runs", "delf_ext.verbs", "delf_ext.recipes")
# Module -> the only module that may import it.
ONLY_IMPORTED_BY = {"delf_ext.models.slim_compat": "delf_ext.models.trunks.slim"}
# Importing one of these must not import TensorFlow, neither directly nor through other modules.
# The whole of data_io belongs to them, except data_io.batches.
WITHOUT_TENSORFLOW = """
delf_ext.config delf_ext.recipes delf_ext.index delf_ext.geometry delf_ext.reranking
delf_ext.evaluation delf_ext.pipeline delf_ext.runs delf_ext.app delf_ext.verbs delf_ext.nsml
delf_ext.web dual_main pretrained delf_ext.features.embedder delf_ext.features.reductions
delf_ext.features.network_embedders delf_ext.features.local.delf_config
delf_ext.features.local.sift
"""


class Rule(NamedTuple):
    """What a module may import.

    Attributes:
        always: at any place.
        in_functions: only inside functions.
    """

    always: list[str]
    in_functions: list[str]


def parse_rules(table: str) -> dict[str, Rule]:
    """Return module -> rule, with each group replaced by its modules."""
    rules = {}
    for line in table.strip().splitlines():
        left, _, right = line.partition("|")
        module, *always = left.split()
        rules[module] = Rule(expand(always), expand(right.split()))
    return rules


def expand(names: list[str]) -> list[str]:
    """Return the names with each group replaced by its modules."""
    expanded = []
    for name in names:
        expanded += expand(GROUPS[name].split()) if name in GROUPS else [name]
    return expanded


ALLOWED = parse_rules(TABLE)


class Import(NamedTuple):
    """One imported name.

    Attributes:
        name: dotted name.
        line: 1-based line of the source.
        in_function: whether it is imported when a function runs, not together with its module.
    """

    name: str
    line: int
    in_function: bool


def read_sources(root: Path) -> dict[str, str]:
    """Return dotted name -> source of all packages and dual_main.py."""
    files = [root / "dual_main.py"]
    for package in PACKAGES:
        files += sorted((root / package).rglob("*.py"))
    sources = {}
    for path in files:
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        sources[name] = path.read_text(encoding="utf-8")
    return sources


def imports_of(source: str) -> Iterator[Import]:
    """Yield all imports of a source.

    `from a import b` counts as a.b: the syntax tree does not say whether b is a module, and a rule
    that allows a allows a.b too.
    """

    def visit(node: ast.AST, in_function: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            names = []
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                base = "." * child.level + (child.module or "")
                names = [f"{base}.{alias.name}" for alias in child.names]
            for name in names:
                yield Import(name, child.lineno, in_function)
            is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            yield from visit(child, in_function or is_function or is_type_checking(child))

    return visit(ast.parse(source), False)


def is_type_checking(node: ast.AST) -> bool:
    """Return whether the node is `if TYPE_CHECKING:`, whose body never runs."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def is_below(name: str, *tops: str) -> bool:
    """Return whether the name is one of the tops, or below one."""
    return any(name == top or name.startswith(f"{top}.") for top in tops)


def violations(module: str, source: str) -> list[str]:
    """Return one line for each import that ALLOWED or ONLY_IMPORTED_BY forbids."""
    fitting = [name for name in ALLOWED if is_below(module, name)]
    if not fitting:
        return [f"{module}: no rule says what it may import"]
    rule = ALLOWED[max(fitting, key=len)]
    lines = []
    for name, line, in_function in imports_of(source):
        allowed = rule.always + rule.in_functions if in_function else rule.always
        if name.split(".")[0] not in sys.stdlib_module_names and not is_below(name, *allowed):
            lines.append(
                f"{module}, line {line}: may not import {name}. "
                f"Allowed: {', '.join(allowed) or 'the standard library'}"
            )
        for target, importer in ONLY_IMPORTED_BY.items():
            if is_below(name, target) and module != importer:
                lines.append(f"{module}, line {line}: only {importer} may import {target}")
    return lines


def layer_of(module: str) -> tuple[int, str] | None:
    """Return number of the layer and folder; None for the package `delf_ext` itself and others."""
    for number, folders in enumerate(LAYERS):
        for folder in folders:
            if is_below(module, folder):
                return number, folder
    return None


def upward_imports(sources: dict[str, str]) -> list[str]:
    """Return one line for each import that leaves its folder and leads to no lower layer."""
    lines = []
    for module, source in sources.items():
        own = layer_of(module)
        for name, line, _ in imports_of(source):
            other = layer_of(name)
            if own and other and own != other and other[0] >= own[0]:
                lines.append(f"{module}, line {line}: {other[1]} is not below {own[1]}")
            if is_below(name, REGISTRY) and not is_below(module, *MAY_IMPORT_REGISTRY):
                lines.append(f"{module}, line {line}: may not import {REGISTRY}")
    return lines


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Return module -> what is imported with it: our modules, and the top packages of others."""
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        graph[module] = set()
        for name, _, in_function in imports_of(source):
            if in_function:
                continue
            ours = name if name in sources else name.rpartition(".")[0]
            graph[module].add(ours if ours in sources else name.split(".")[0])
    return graph


def find_cycle(sources: dict[str, str]) -> list[str]:
    """Return modules that import each other in a cycle (first = last); empty if there is none."""
    try:
        graphlib.TopologicalSorter(import_graph(sources)).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def path_to_tensorflow(module: str, graph: dict[str, set[str]]) -> list[str]:
    """Return the shortest chain of imports from a module to TensorFlow; empty if there is none."""
    paths = [[module]]
    seen = {module}
    for path in paths:
        if path[-1] in TENSORFLOW:
            return path
        following = graph.get(path[-1], set()) - seen
        seen |= following
        paths += [[*path, name] for name in sorted(following)]
    return []


def loaded_tensorflow(imports: str, path: Path) -> str:
    """Return which TENSORFLOW modules a new interpreter has loaded after `imports`.

    Args:
        imports: Python statements.
        path: put first on the module search path.
    """
    report = f"print(*(name for name in {TENSORFLOW} if name in sys.modules))"
    code = f"import sys; sys.path.insert(0, {str(path)!r}); {imports}; {report}"
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


# --- the repository


def test_every_module_imports_only_what_it_may(root: Path) -> None:
    sources = read_sources(root)
    assert {"data_io.records", "delf_ext", "delf_ext.index.exact"} <= sources.keys()
    assert {"baseline_keras.__main__", "dual_main"} <= sources.keys()
    lines = [line for module, source in sources.items() for line in violations(module, source)]
    assert not lines, "\n".join(lines)


def test_no_import_leads_to_a_higher_layer(root: Path) -> None:
    sources = read_sources(root)
    without_layer = [module for module in sources if layer_of(module) is None]
    assert without_layer == ["delf_ext"], "each folder needs a layer"
    lines = upward_imports(sources)
    assert not lines, "\n".join(lines)


def test_no_modules_import_each_other_in_a_cycle(root: Path) -> None:
    assert find_cycle(read_sources(root)) == []


def test_modules_without_tensorflow_do_not_reach_it_through_others(root: Path) -> None:
    graph = import_graph(read_sources(root))
    modules = [
        module for module in graph if is_below(module, "data_io", *WITHOUT_TENSORFLOW.split())
    ]
    modules.remove("data_io.batches")
    paths = [" -> ".join(path_to_tensorflow(module, graph)) for module in modules]
    assert not any(paths), "\n".join(filter(None, paths))


def test_help_search_and_metrics_load_no_tensorflow(root: Path) -> None:
    imports = (
        "import dual_main, delf_ext.index.exact, delf_ext.evaluation.metrics; dual_main.help_text()"
    )
    assert loaded_tensorflow(imports, root) == ""


def test_no_module_is_called_utils(root: Path) -> None:
    names = [name for name in read_sources(root) if {"utils", "util"} & set(name.split("."))]
    assert not names, f"{names}: use a name that says what the module does"


# --- the tables


def test_only_few_modules_may_import_tensorflow() -> None:
    may_always = {module for module, rule in ALLOWED.items() if set(TENSORFLOW) & set(rule.always)}
    assert may_always == {
        "data_io.batches",
        "delf_ext.models",
        "delf_ext.models.slim_compat",
        "delf_ext.losses",
        "delf_ext.losses.triplet",
        "delf_ext.training",
        "delf_ext.features",
        "baseline_keras",
    }
    in_functions = {module for module, rule in ALLOWED.items() if "tensorflow" in rule.in_functions}
    assert in_functions == {
        "delf_ext.models.precision",
        "delf_ext.runs",
        "delf_ext.app",
        "pretrained",
    }


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("tf_slim", "delf_ext.models.slim_compat"),
        ("tensorflow_addons", "delf_ext.losses.triplet"),
    ],
)
def test_only_one_module_may_import_tf_slim_and_one_tensorflow_addons(
    name: str, module: str
) -> None:
    importers = [key for key, rule in ALLOWED.items() if name in rule.always + rule.in_functions]
    assert importers == [module]


# --- the checks


@pytest.mark.parametrize(
    ("module", "source", "forbidden"),
    [
        (
            "data_io.records",
            "from data_io.files.artifacts import digest_of",
            "data_io.files.artifacts.digest_of",
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
def test_a_forbidden_import_is_found(module: str, source: str, forbidden: str) -> None:
    (line,) = violations(module, f'"""Docstring."""\n{source}\n')
    assert line.startswith(f"{module}, line ") and f"may not import {forbidden}. Allowed: " in line


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "delf_ext.app.training",
            "import os.path\nimport numpy as np\nfrom data_io import splits\n\n\n"
            "def f():\n    import tensorflow as tf\n",
        ),
        (
            "delf_ext.evaluation.report",
            "from delf_ext.reranking.chain import run\nimport numba",
        ),
        ("delf_ext.index.approximate", "def f():\n    import faiss"),
        (
            "delf_ext.models.slim_compat",
            "import tf_slim as slim\nfrom tf_slim.nets import vgg",
        ),
        ("delf_ext.models.trunks.slim", "from delf_ext.models.slim_compat import slim"),
        ("delf_ext.losses.triplet", "def f():\n    import tensorflow_addons as tfa"),
    ],
)
def test_an_allowed_import_is_accepted(module: str, source: str) -> None:
    assert violations(module, source) == []


def test_only_the_slim_trunk_may_import_slim_compat() -> None:
    source = "from delf_ext.models.slim_compat import slim"
    assert violations("delf_ext.models.heads", source) == [
        "delf_ext.models.heads, line 1: only delf_ext.models.trunks.slim may import "
        "delf_ext.models.slim_compat"
    ]


def test_a_module_without_a_rule_is_found() -> None:
    assert violations("elsewhere.thing", "") == ["elsewhere.thing: no rule says what it may import"]


def test_an_import_of_a_higher_layer_is_found() -> None:
    sources = {
        "delf_ext.runs.opening": "def f():\n    from delf_ext.app import training",
        "delf_ext.training.loop": "from delf_ext.recipes.registry import RECIPES",
        "delf_ext.app.data": (
            "from delf_ext.runs.opening import quiet\nfrom delf_ext.app import training"
        ),
    }
    assert upward_imports(sources) == [
        "delf_ext.runs.opening, line 2: delf_ext.app is not below delf_ext.runs",
        "delf_ext.training.loop, line 1: may not import delf_ext.recipes.registry",
    ]


def test_a_cycle_is_found_unless_one_import_is_inside_a_function() -> None:
    sources = {
        "p": "",
        "p.a": "from p.b import x",
        "p.b": "import os\nfrom p import c",
        "p.c": "import p.a",
    }
    assert sorted(set(find_cycle(sources))) == ["p.a", "p.b", "p.c"]
    assert find_cycle({**sources, "p.c": "def f():\n    import p.a"}) == []


def test_an_indirect_import_of_tensorflow_is_found() -> None:
    sources = {
        "q": "import p.a",
        "p.a": "import numpy\nfrom p import b",
        "p.b": "import tensorflow.keras as k",
        "p": "",
    }
    graph = import_graph(sources)
    assert path_to_tensorflow("q", graph) == ["q", "p.a", "p.b", "tensorflow"]
    assert path_to_tensorflow("p", graph) == []


def test_a_loaded_tensorflow_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("")
    assert loaded_tensorflow("import tensorflow", tmp_path) == "tensorflow"
