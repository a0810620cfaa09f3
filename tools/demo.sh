#!/usr/bin/env bash
# The whole job on a small machine, in ten minutes: install, train a tracker with five task heads in stages, track
# frames that training did not see, print the scores, write the overlay videos. No GPU, no download beyond pip's.
#
#   bash tools/demo.sh [--seed N] [--out DIR] [--rendered] [--no-video] [--quick]
#
#   --seed N     seed of training and of its data (42)
#   --out DIR    where everything goes (output/demo); an earlier run's results there are replaced, its
#                checkpoints moved to a sub-folder earlier/
#   --config C   another configuration of hiptrack, such as hiptrack_cls_tiny (hiptrack_mtl_tiny)
#   --rendered   leave out the real sequences even if they are there
#   --no-video   don't write the overlay videos
#   --quick      one epoch a stage: shows that everything runs, learns nothing
#
# Training sees rendered traffic, which carries every label, and, where $MTLTRACK_DATA/sot (default: ../shared/data
# beside the checkout) exists, two real sequences, Crossing 1-80 and Car4 1-180. The test tracks the real frames
# after those, and plain rendered scenes that training doesn't see: vehicles that come close, or park where they must not.
set -euo pipefail

SEED=42
OUT=
CONFIG=
RENDERED=no
VIDEO=(--video)
OPTIONS=()

fail() {
    echo "demo: $*" >&2
    exit 1
}

while [[ $# -gt 0 ]]; do
    case "$1" in
        --seed) [[ "${2:-}" =~ ^[0-9]+$ ]] || fail "--seed needs a number of at least 0; found '${2:-}'"; SEED="$2"; shift 2 ;;
        --out) [[ -n "${2:-}" ]] || fail "--out needs a folder"; OUT="$2"; shift 2 ;;
        --config) [[ -n "${2:-}" ]] || fail "--config needs the name of a configuration"; CONFIG="$2"; shift 2 ;;
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

REAL=no
FRAMES=()
if [[ "$RENDERED" == no && -d "$MTLTRACK_DATA/sot/Crossing" && -d "$MTLTRACK_DATA/sot/Car4_0001-0250" ]]; then
    REAL=yes
    CONFIG="${CONFIG:-hiptrack_mtl_tiny}"
    FRAMES=(--frames Crossing=81:120 --frames Car4_0001-0250=181:250)
    echo "real sequences: $MTLTRACK_DATA/sot"
else
    CONFIG="${CONFIG:-hiptrack_mtl_tiny_synthetic}"
    [[ "$RENDERED" == yes ]] || echo "no real sequences at $MTLTRACK_DATA/sot (set MTLTRACK_DATA): rendered ones alone"
fi
mkdir -p "$OUT"
RESULTS="$OUT/test/tracking_results"
WORLD="$OUT/rendered"

say "training $CONFIG, seed $SEED"
"$PYTHON_BIN" tracking/train.py --script "$SCRIPT" --config "$CONFIG" --save_dir "$OUT" --mode single \
    --seed "$SEED" --resume never ${OPTIONS[@]+"${OPTIONS[@]}"}

say "rendering scenes that training did not see"
rm -rf "$WORLD"
"$PYTHON_BIN" tools/make_synthetic.py --sequences 4 --kinds park approach --conditions Normal --seed 1000 \
    --split val --out "$WORLD"

# track FOLDER [ARGUMENTS]: track the sequences of a folder and score them; the second line of the first table is a
# tracker that holds the first box still
track() {
    local folder="$1"
    shift
    "$PYTHON_BIN" tracking/test.py "$SCRIPT" "$CONFIG" --dataset "$folder" "$@" --save_dir "$OUT" \
        --decimals 2 --force ${VIDEO[@]+"${VIDEO[@]}"} ${OPTIONS[@]+"${OPTIONS[@]}"}
    "$PYTHON_BIN" tracking/analysis_results.py --trackers "$SCRIPT/$CONFIG" --dataset "$folder" "$@" \
        --save_dir "$OUT" --per-sequence --baseline
}

if [[ "$REAL" == yes ]]; then
    say "tracking the real frames that training did not see"
    track "$MTLTRACK_DATA/sot" "${FRAMES[@]}"
fi
say "tracking rendered scenes that training did not see"
track "$WORLD/val"

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
