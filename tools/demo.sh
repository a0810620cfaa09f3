#!/usr/bin/env bash
# The whole job on a small machine, in ten minutes: install, train in stages, track frames that training did not
# see, print the scores. No GPU, no download beyond pip's.
#
#   bash tools/demo.sh [--seed N] [--out DIR] [--rendered] [--no-video] [--quick]
#
#   --seed N     seed of training and of its data (42)
#   --out DIR    where everything goes (output/demo); an earlier run's results there are replaced, its
#                checkpoints moved to a sub-folder earlier/
#   --rendered   use rendered sequences even if real ones are there
#   --no-video   don't write the overlay videos
#   --quick      one epoch a stage: shows that everything runs, learns nothing
#
# Real sequences are taken from $MTLTRACK_DATA/sot (default: ../shared/data beside the checkout) when it exists:
# training sees Crossing 1-80 and Car4 1-180, the test the frames after those. Without them, rendered ones.
set -euo pipefail

SEED=42
OUT=
RENDERED=no
VIDEO=(--video)
LABELS=()
OPTIONS=()

fail() {
    echo "demo: $*" >&2
    exit 1
}

while [[ $# -gt 0 ]]; do
    case "$1" in
        --seed) [[ "${2:-}" =~ ^[0-9]+$ ]] || fail "--seed needs a number of at least 0; found '${2:-}'"; SEED="$2"; shift 2 ;;
        --out) [[ -n "${2:-}" ]] || fail "--out needs a folder"; OUT="$2"; shift 2 ;;
        --rendered) RENDERED=yes; shift ;;
        --no-video) VIDEO=(); shift ;;
        --quick) OPTIONS=(--cfg-options TRAIN.BOX_EPOCHS=1 TRAIN.STAGE1_EPOCHS=1 TRAIN.STAGE2_EPOCHS=1 TEST.EPOCH=3); shift ;;
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        *) fail "unknown option '$1'; see bash tools/demo.sh --help" ;;
    esac
done

[[ -z "$OUT" || "$OUT" == /* ]] || OUT="$PWD/$OUT" # what the user types counts from where the user is
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
OUT="${OUT:-$ROOT/output/demo}"
cd "$ROOT"
setup_env

export COLUMNS="${COLUMNS:-110}" # tables as wide as they need to be, in a log file too
# one thread: so small a network gains little from a second, which waits spinning when the machine is busy, and the
# numbers don't depend on how many cores there are
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
BEGAN=$SECONDS
SCRIPT=hiptrack
say() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - BEGAN)); }

choose_data() {
    if [[ "$RENDERED" == no && -d "$MTLTRACK_DATA/sot/Crossing" && -d "$MTLTRACK_DATA/sot/Car4_0001-0250" &&
        -f "$MTLTRACK_DATA/evalcheck/OTB100.json.gz" ]]; then
        CONFIG=hiptrack_cls_tiny
        DATASET="$MTLTRACK_DATA/sot"
        FRAMES=(--frames Crossing=81:120 --frames Car4_0001-0250=181:250)
        echo "real sequences: $DATASET"
        return
    fi
    CONFIG=hiptrack_cls_tiny_synthetic
    DATASET="$OUT/rendered"
    [[ "$RENDERED" == yes ]] || echo "no real sequences at $MTLTRACK_DATA/sot (set MTLTRACK_DATA): rendered ones instead"
    rm -rf "$DATASET"
    "$PYTHON_BIN" tools/make_synthetic.py --world textures --sequences 4 --frames 126 --out "$DATASET"
    FRAMES=()
    LABELS=(--conditions "$DATASET") # rendered frames come with their true conditions
    local folder
    for folder in "$DATASET"/*/; do
        FRAMES+=(--frames "$(basename "$folder")=81:126")
    done
}

mkdir -p "$OUT"
choose_data
RESULTS="$OUT/test/tracking_results"

say "training $CONFIG, seed $SEED"
"$PYTHON_BIN" tracking/train.py --script "$SCRIPT" --config "$CONFIG" --save_dir "$OUT" --mode single \
    --seed "$SEED" --resume never ${OPTIONS[@]+"${OPTIONS[@]}"}

say "tracking the frames that training did not see"
"$PYTHON_BIN" tracking/test.py "$SCRIPT" "$CONFIG" --dataset "$DATASET" "${FRAMES[@]}" --save_dir "$OUT" \
    --decimals 2 --force ${VIDEO[@]+"${VIDEO[@]}"} ${OPTIONS[@]+"${OPTIONS[@]}"}

say "scores; the second line is a tracker that holds the first box still"
"$PYTHON_BIN" tracking/analysis_results.py --trackers "$SCRIPT/$CONFIG" --dataset "$DATASET" "${FRAMES[@]}" \
    --save_dir "$OUT" --per-sequence --baseline ${LABELS[@]+"${LABELS[@]}"}

say "done"
echo "TensorBoard logs  $OUT/tensorboard/train/$SCRIPT/$CONFIG"
echo "                  ($ROOT/.venv/bin/tensorboard --logdir $OUT/tensorboard)"
echo "training log      $OUT/logs/$SCRIPT-$CONFIG.log"
echo "checkpoints       $OUT/checkpoints/train/$SCRIPT/$CONFIG"
echo "result files      $RESULTS/$SCRIPT/$CONFIG/"
if [[ ${#VIDEO[@]} -gt 0 ]]; then
    echo "overlay videos    $RESULTS/$SCRIPT/$CONFIG/videos/"
fi
echo "time              $((SECONDS - BEGAN)) s without the installation, $SECONDS s in all"
