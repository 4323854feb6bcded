#!/usr/bin/env bash
# One gate in CI, for every CI server alike. Everything comes by the environment, nothing is put into
# a command by the server, and a value can be neither a command nor an option.
#
#   HIL_DEVICE         device file
#   HIL_MODELS         networks: paths or patterns, parted by white space
#   HIL_BASELINE_REF   commit whose networks these are compared with, measured by turns (optional)
#   HIL_BASELINE_FILE  or: figures written by --write-baseline (optional)
#   HIL_BUDGET_FILE    budgets and margins (optional)
#   HIL_LABELLED       labelled pictures, .npz (optional)
#   HIL_WAIT           how long to wait for the board's lease (30m)
#   HIL_MAX_TIME       board time of one network's screening (20m)
#   HIL_INCONCLUSIVE   fail or pass
#   HIL_OUT            folder of results (hil-gate)
set -euo pipefail
say() { printf 'hil-gate: %s\n' "$1" >&2; }

device=${HIL_DEVICE:?name a device file in HIL_DEVICE}
out=${HIL_OUT:-hil-gate}
mkdir -p -- "$out"
models=()
read -r -d '' -a patterns <<<"${HIL_MODELS:?name networks in HIL_MODELS}" || true
for pattern in "${patterns[@]}"; do
    found=()
    while IFS= read -r path; do found+=("$path"); done < <(compgen -G "$pattern" || true)
    if [ "${#found[@]}" = 0 ]; then
        say "there is no network $pattern"
        exit 2
    fi
    models+=("${found[@]}")
done

options=(--device="$device" --wait="${HIL_WAIT:-30m}" --max-time="${HIL_MAX_TIME:-20m}"
    --inconclusive="${HIL_INCONCLUSIVE:-fail}" --junit="$out/junit.xml"
    --markdown="$out/comment.md" --bencher="$out/bencher.json"
    --benchmark-json="$out/benchmark.json")
[ -z "${HIL_BUDGET_FILE:-}" ] || options+=(--budget-file="$HIL_BUDGET_FILE")
[ -z "${HIL_LABELLED:-}" ] || options+=(--labelled="$HIL_LABELLED")
[ -z "${HIL_BASELINE_FILE:-}" ] || options+=(--baseline="$HIL_BASELINE_FILE")
ref=${HIL_BASELINE_REF:-}
# A branch's first push names a commit of noughts as the one before.
if [ -n "$ref" ] && [ -n "${ref//0/}" ]; then
    commit=$(git rev-parse --verify --quiet --end-of-options "$ref^{commit}") || {
        say "there is no commit $ref here; next: check out with its history"
        exit 2
    }
    before="$out/before"
    for model in "${models[@]}"; do
        mkdir -p -- "$before/$(dirname -- "$model")"
        if git cat-file -e "$commit:./$model" 2>/dev/null; then
            git show "$commit:./$model" >"$before/$model"
        else
            say "$model is new since $ref: only its budgets can fail"
            cp -- "$model" "$before/$model"
        fi
        options+=(--baseline-model="$before/$model")
    done
fi

# exec: a cancelled job's signal must reach hil itself, which puts the board back.
exec hil gate "${options[@]}" -- "${models[@]}"
