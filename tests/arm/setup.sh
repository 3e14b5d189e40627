#!/usr/bin/env bash
# Makes FOLDER/debian (an aarch64 Python of Debian 13), FOLDER/wheels (aarch64 wheels of what an
# artifact needs) and FOLDER/llama (llama-cpp-python, compiled for aarch64). Keeps what is there.
# Packages are unpacked, their scripts are not run; root is not needed.
#
#     tests/arm/setup.sh FOLDER PYTHON
set -euo pipefail
folder=$1 python=$2 release=trixie python_version=3.13
# Of the packages that debootstrap fetches, those that Python and the wheels load.
packages="libbz2-1.0 libc6 libexpat1 libffi8 libgcc-s1 libgomp1 liblzma5 libpython3.13-minimal
  libpython3.13-stdlib libsqlite3-0 libssl3t64 libstdc++6 libuuid1 python3.13-minimal zlib1g"
wheels="diskcache gguf jinja2 markupsafe numpy onnxruntime pillow pyyaml tokenizers typing_extensions"

missing() {
    echo "make test-arm: $1 is not there; on Debian and Ubuntu: apt-get install qemu-user-static" \
        "debootstrap debian-archive-keyring fakeroot g++-aarch64-linux-gnu" >&2
    exit 2
}
for tool in debootstrap dpkg-deb fakeroot aarch64-linux-gnu-g++; do
    command -v $tool >/dev/null || missing $tool
done
command -v qemu-aarch64-static >/dev/null || command -v qemu-aarch64 >/dev/null || missing qemu-aarch64

mkdir -p "$folder"
folder=$(realpath "$folder")
work=$(mktemp -d "$folder/partial-XXXX")
trap 'rm -rf "$work"' EXIT
pip() { "$python" -m pip "$@" --disable-pip-version-check --quiet --no-deps; }

if [ ! -d "$folder/debian" ]; then
    echo "Fetching Debian's packages for aarch64 (90 MB)."
    fakeroot debootstrap --arch=arm64 --variant=minbase --download-only \
        --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
        --include=python3,libgomp1,libstdc++6 $release "$work/fetched" >"$work/log" ||
        { cat "$work/log" >&2; exit 1; }
    for name in $packages; do
        dpkg-deb -x "$work"/fetched/var/cache/apt/archives/"${name}"_*.deb "$work/debian"
    done
    ln -s usr/lib "$work/debian/lib"
    mv "$work/debian" "$folder/debian"
fi

echo "Fetching aarch64 wheels (50 MB)."
# shellcheck disable=SC2086
pip install -c constraints.txt --target "$work/wheels" --only-binary=:all: --python-version $python_version \
    --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 $wheels
rm -rf "$folder/wheels"
mv "$work/wheels" "$folder/wheels"

version=$(sed -n 's/^llama_cpp_python==//p' constraints.txt)
if [ ! -d "$folder/llama/llama_cpp_python-$version.dist-info" ]; then
    echo "Compiling llama.cpp for aarch64: some twelve minutes on two cores."
    # Without pip's cache, which would keep the wheel as one for this machine: so is its tag.
    CMAKE_ARGS="-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
        -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
        -DGGML_NATIVE=OFF -DGGML_CPU_ARM_ARCH=armv8.2-a+dotprod+fp16" CFLAGS="" CXXFLAGS="" \
        pip wheel --no-cache-dir --no-binary llama-cpp-python --wheel-dir "$work/compiled" \
        "llama-cpp-python==$version"
    pip install --target "$work/llama" "$work"/compiled/*.whl
    rm -rf "$folder/llama"
    mv "$work/llama" "$folder/llama"
fi
