#!/usr/bin/env bash
# Collect what a GPU machine without a network lacks, as wheels for its Python; the versions are those of CI.
#
# Usage: benchmarks/gpu/wheels.sh [FOLDER, default wheels] [PYTHON, default 3.12]
#
# The machine has torch with CUDA, numpy, scipy, matplotlib, rich, jinja2, h5py, pyyaml, einops, safetensors and
# filelock already. Take the checkout and the folder there and begin with
#   pip install --no-index --no-deps --target site FOLDER/*.whl && export PYTHONPATH=$PWD/site:$PWD/src
# The command is then `python -m cryovox`.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-wheels}
python=${2:-3.12}
needed=(
    monai lightning-fabric mrcfile zarr gemmi connected-components-3d pydantic tyro starfile
    donfig google-crc32c numcodecs pydantic-core annotated-types docstring-parser typeguard typing-inspection
)
platforms=()
for name in manylinux_2_34_x86_64 manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_24_x86_64 \
    manylinux_2_17_x86_64 manylinux2014_x86_64 manylinux1_x86_64; do
    platforms+=(--platform "$name")
done
mkdir -p "$folder"
for name in "${needed[@]}"; do
    # what no constraint names takes the version that the resolver chose for the tests
    wanted=$(.venv/bin/python -c "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))" "$name")
    .venv/bin/pip download --quiet --no-deps --only-binary=:all: --python-version "$python" --implementation cp \
        "${platforms[@]}" --dest "$folder" "$name==$wanted"
done
du -sh "$folder"
