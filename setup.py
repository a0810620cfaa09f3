"""Packaging: `pip install -e .` for work on a checkout, `pip install mtltrack` from a wheel."""

from pathlib import Path

from setuptools import find_packages, setup

REQUIRED = [
    "torch>=2.6",
    "torchvision>=0.21",
    "timm>=1.0.9",
    "mmengine>=0.10.7",
    "accelerate>=1.0",
    "pydantic>=2.7",
    "pyyaml>=6.0",
    "numpy>=1.26",
    "lmdb>=1.4",
    "opencv-python-headless>=5.0",
    "tensorboard>=2.16",
    "torchmetrics>=1.4",
    "pycocotools>=2.0.7",
    "pillow>=10.0",
    "rich>=13.0",
    "matplotlib>=3.8",
    "safetensors>=0.4",
]
BALANCING = "torchjd[cagrad,quadprog-projector]>=0.18"
EXTRAS = {
    "test": [
        "pytest>=8.0",
        "hypothesis>=6.100",
        "ruff>=0.6",
        "mypy>=1.11",
        "types-PyYAML",
        "build>=1.2",
        "shapely>=2.0",
        # what scores and intervals are checked against
        "got10k>=0.1.3",
        "scipy>=1.11",
        BALANCING,
    ],
    # for TRAIN.WEIGHTING pcgrad, cagrad and upgrad; every other multi-task part runs on the packages above
    "mtl": ["shapely>=2.0", BALANCING],
    # for tracking/vot.py; the toolkit that starts it has its own environment
    "vot": ["vot-trax>=4.0"],
    "export": ["onnx>=1.16", "onnxruntime>=1.18"],
    # mmdet 3.3 needs mmcv >= 2.0, < 2.2, which must be built from source for a current torch
    "mmdet": ["mmdet>=3.3,<3.4", "mmcv>=2.0,<2.2"],
}

setup(
    name="mtltrack",
    version="0.1.0",
    description="Multi-task fine-tuning of ViT template/search trackers",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    package_dir={"": "lib"},
    packages=find_packages("lib"),
    package_data={"mtltrack": ["**/*.yaml", "**/*.json", "**/*.txt", "**/*.csv", "py.typed"]},
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    classifiers=[
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
