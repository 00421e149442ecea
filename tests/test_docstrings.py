"""Check what ruff cannot: public functions that handle arrays document them, with shapes.

ruff (D417, DOC201, DOC402, DOC501) checks that a section is complete once it exists.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("data_io", "delf_ext", "baseline_keras", "pretrained")
ARRAYS = ("np.ndarray", "tf.Tensor")
SHAPE = re.compile(r"\[|scalar|(any|same) shape", re.IGNORECASE)
MANY_PARAMETERS = 3
Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(tree: ast.Module) -> Iterator[Function]:
    """Yield the public functions of a module and the public methods of its public classes."""
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) and is_public(node) else [node]
        yield from (one for one in members if isinstance(one, Function) and is_public(one))


def is_public(node: ast.ClassDef | Function) -> bool:
    return not node.name.startswith("_")


def parameters(function: Function) -> list[ast.arg]:
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [one for one in every if one.arg not in ("self", "cls")]


def is_array(annotation: ast.expr | None) -> bool:
    text = ast.unparse(annotation) if annotation is not None else ""
    return text.removesuffix(" | None") in ARRAYS


def entry(docstring: str, name: str) -> str | None:
    """Return the text of an argument in the Args section, or None if it has none."""
    found = re.search(rf"^ +{re.escape(name)}: (.*(?:\n {{12,}}.*)*)", docstring, re.MULTILINE)
    return found[1] if found else None


def faults(function: Function) -> list[str]:
    """Return what is missing in the docstring of a function, one line each."""
    docstring = ast.get_docstring(function, clean=False) or ""
    arguments = parameters(function)
    arrays = [one.arg for one in arguments if is_array(one.annotation)]
    missing = []
    if (arrays or len(arguments) >= MANY_PARAMETERS) and "Args:" not in docstring:
        missing.append("no Args")
    elif "Args:" in docstring:
        missing += [
            f"no shape of {name}"
            for name in arrays
            if not SHAPE.search(entry(docstring, name) or "")
        ]
    if is_array(function.returns):
        returns = docstring.partition("Returns:")[2]
        if not SHAPE.search(returns or docstring.partition("\n")[0]):
            missing.append("no shape of the result")
    return missing


def is_documented_elsewhere(function: Function) -> bool:
    """Return whether the function fills a contract of Keras, or names the method it overrides."""
    keras = ("call", "build", "get_config", "compute_output_shape", "train_step")
    docstring = ast.get_docstring(function) or ""
    return function.name in keras or f".{function.name}`" in docstring


def test_public_functions_document_their_arrays(root: Path) -> None:
    found = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            for function in public_functions(ast.parse(path.read_text(encoding="utf-8"))):
                if not is_documented_elsewhere(function):
                    where = f"{path.relative_to(root)}:{function.lineno} {function.name}"
                    found += [f"{where}: {fault}" for fault in faults(function)]
    assert not found, f"{len(found)} faults\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('def f(x: np.ndarray):\n    """Do it."""', ["no Args"]),
        ('def f(a, b, c):\n    """Do it."""', ["no Args"]),
        ('def f(a, b):\n    """Do it."""', []),
        (
            'def f(x: np.ndarray):\n    """Do it.\n\n    Args:\n        x: values.\n    """',
            ["no shape of x"],
        ),
        ('def f(x: np.ndarray):\n    """Do it.\n\n    Args:\n        x: float [N].\n    """', []),
        ('def f() -> np.ndarray:\n    """Return it."""', ["no shape of the result"]),
        ('def f() -> np.ndarray:\n    """Return it [N]."""', []),
        ('def f() -> np.ndarray:\n    """Do.\n\n    Returns:\n        It, [N].\n    """', []),
    ],
)
def test_faults_are_found(source: str, expected: list[str]) -> None:
    (function,) = public_functions(ast.parse(source))
    assert faults(function) == expected
