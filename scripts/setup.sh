#!/usr/bin/env bash
# Makes .venv with Python >= 3.11 and installs evenseg into it, editable, with its development tools.
# Called by `make`, which calls it again when pyproject.toml changes. Uses uv where it is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

recent='import sys; sys.exit(sys.version_info < (3, 11))'
# what `import evenseg` and the tests need, for machines that have it all but reach no package index
imports='import cv2, lightning_fabric, matplotlib, PIL, pydantic, pytest, rich, safetensors, scipy, timm, torch, torchvision, typer, yaml
import onnx, onnxruntime, onnxscript, segmentation_models_pytorch, torchmetrics, xdist'

find_python() {
  for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
    if command -v "$candidate" >/dev/null && "$candidate" -c "$recent" 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "evenseg needs Python 3.11 or newer; found $(python3 --version 2>&1). Install a newer one" >&2
  exit 1
}

if [ ! -x .venv/bin/python ]; then
  if command -v uv >/dev/null; then
    uv venv --seed --python '>=3.11' .venv
  else
    python=$(find_python)
    "$python" -m venv .venv
  fi
elif ! .venv/bin/python -c "$recent"; then
  echo "evenseg needs Python 3.11 or newer; .venv has $(.venv/bin/python --version). Remove .venv and try again." >&2
  exit 1
fi

install() {
  if command -v uv >/dev/null; then
    uv pip install --python .venv/bin/python --editable '.[dev,onnx,tensorboard]'
  else
    .venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip
    .venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --editable '.[dev,onnx,tensorboard]'
  fi
}

echo "installing evenseg into .venv (the first time this fetches PyTorch and takes some minutes)"
if ! install; then
  .venv/bin/python -c "$imports" || { echo "installation failed, see above" >&2; exit 1; }
  echo "installation failed, but .venv has every requirement already: going on with the sources in src" >&2
fi
touch .venv/evenseg-installed
