#!/usr/bin/env bash
# All that is to be measured on a machine with a GPU, in one go and without a network:
#
#   benchmarks/gpu.sh [--wheels FOLDER] [--data FOLDER] [--timm TRAIN.PY] [--out FOLDER] [--minutes N] [--cpu] [--smoke]
#
# --wheels   make an environment from the wheels in this folder, on top of what the machine's Python has (such as a
#            PyTorch with CUDA); without it the environment at hand is used: $PYTHON, else .venv, else python3
# --data     photographs, a folder a class; without it only synthetic images are measured on
# --timm     timm's own train.py, to be measured beside the others
# --out      folder of the results (benchmarks/results)
# --minutes  all parts together, set-up aside (8)
# --cpu      on the CPU, which says nothing of a GPU but whether all of it runs
# --smoke    tiny networks and a few images: the numbers mean nothing, and are kept with --out alone
#
# Each part is a process with a time limit of its own (on a CPU three times as long); what failed or took too long is said
# at the end (exit code 1).
set -uo pipefail

wheels='' data='' timm='' out='' minutes=8 cpu='' smoke=''
while [[ $# -gt 0 ]]; do
  case "$1" in
    --wheels | --data | --timm | --out | --minutes)
      [[ $# -ge 2 ]] || { echo "gpu.sh: $1 wants a value" >&2; exit 2; }
      declare "${1#--}=$2"
      shift 2 ;;
    --cpu | --smoke) declare "${1#--}=yes"; shift ;;
    -h | --help) sed -n '2,/^set /{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "gpu.sh: $1: no such option; see --help" >&2; exit 2 ;;
  esac
done
for given in wheels data timm; do
  [[ -z ${!given} || -e ${!given} ]] || { echo "gpu.sh: --$given ${!given}: there is no such thing" >&2; exit 2; }
  [[ -z ${!given} ]] || declare "$given=$(realpath "${!given}")"
done
[[ -z $out ]] || { mkdir -p "$out" && out=$(realpath "$out"); } || exit 2
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

scratch=$(mktemp -d)
running=''
trap 'rm -rf "$scratch"' EXIT
trap 'kill -TERM $running 2>/dev/null; wait; exit 130' INT TERM
[[ -n $smoke ]] && out=${out:-$scratch/results}
out=${out:-benchmarks/results}

python=${PYTHON:-.venv/bin/python}
[[ -x $python ]] || python=$(command -v "$python" || command -v python3) || { echo "gpu.sh: there is no Python" >&2; exit 2; }
if [[ -n $wheels ]]; then
  "$python" -m venv --system-site-packages "$scratch/venv" || exit 2
  python=$scratch/venv/bin/python
  "$python" -m pip install -q --disable-pip-version-check --no-index --find-links "$wheels" -e ".[dev]" || exit 2
fi
device=$("$python" -c 'import sys, torch; gpu = torch.cuda.is_available(); print(torch.cuda.get_device_name() if gpu else "no GPU"); sys.exit(not gpu)')
if [[ $? -ne 0 && -z $cpu ]]; then
  echo "gpu.sh: PyTorch sees no GPU here (${device:-it cannot be imported}); see --cpu" >&2
  exit 2
fi

failed=() begun=$SECONDS
# part NAME SECONDS COMMAND …: run a command for so long at most, and for no longer than there is time left.
part() {
  local name=$1 limit=$2 left=$((minutes * 60 - SECONDS + begun)) since=$SECONDS code
  shift 2
  [[ -z $cpu ]] || limit=$((3 * limit))
  ((left > 0)) || { failed+=("$name: no time was left for it"); return; }
  ((limit <= left)) || limit=$left
  ((limit <= ${GPU_SH_MOST:-limit})) || limit=$GPU_SH_MOST # for tests of this script
  echo "=== $name, at most $limit s"
  timeout -k 10 "$limit" "$@" &
  running=$!
  wait "$running"
  code=$?
  running=''
  case $code in
    0) echo "=== $name: done in $((SECONDS - since)) s" ;;
    124 | 137) failed+=("$name: it took longer than $limit s") ;;
    *) failed+=("$name: it ended with exit code $code") ;;
  esac
}

synthetic=$scratch/synthetic networks=(resnet50 efficientnet_lite0)
size=(--quick --size 224) where=(trainer=gpu trainer.precision=bf16) more=(batch_size=128)
[[ -n $cpu ]] && where=(trainer=cpu)
[[ -n $smoke ]] && networks=(test_resnet test_efficientnet) size=(--smoke) more=()
[[ -n $timm ]] && export TIMM_TRAIN=$timm
bench() {
  local name=$1 limit=$2 benchmark=$3
  shift 3
  part "$name" "$limit" "$python" benchmarks/bench.py "$benchmark" "${size[@]}" --out "$out" --scratch "$scratch" \
    "$@" "${where[@]}"
}

count=1024
[[ -n $smoke ]] && count=64
part "synthetic images" 60 "$python" benchmarks/synthetic_images.py "$synthetic" --count "$count"

# `make test-gpu`, in the environment as it is: nothing is installed, whatever the stamp of the installation says.
prefix=$("$python" -c 'import sys; print(sys.prefix)')
tests="tests/integration/test_gpu.py"
[[ -n $cpu ]] && tests+=" -n 0" # where all are left out
part "tests" 130 make -o "$prefix/.installed-dev" "VENV=$prefix" test-gpu "ARGS=$tests"

for images in "$synthetic" ${data:+"$data"}; do
  for network in "${networks[@]}"; do
    weights=()
    [[ $network == efficientnet_lite0 ]] || weights=(backbone.pretrained=false)
    bench "full fine-tuning, $network, $(basename "$images")" 75 full --data "$images" --label "$network" \
      "backbone=$network" ${weights[@]+"${weights[@]}"} ${more[@]+"${more[@]}"}
  done
done
bench "cached and uncached probe" 60 cached_probe --data "${data:-$synthetic}"
bench "ddp with one device" 60 ddp --data "$synthetic"
bench "start to first step" 60 startup --data "$synthetic"

echo
echo "on ${device:-no GPU}: $((SECONDS - begun)) s; results in $([[ $out == "$scratch"* ]] && echo "no place that stays" || echo "$out")"
if ((${#failed[@]})); then
  printf 'failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
