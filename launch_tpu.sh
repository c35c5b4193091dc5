#!/usr/bin/env bash
# Starts one training run on every worker of a Cloud TPU pod slice.
#
#   ./launch_tpu.sh --tpu my-pod --zone us-central2-b --gin gin/distill_base.gin --model-dir gs://bucket/runs/base
#
# By default it only prints the commands (a dry run); --run executes them. See docs/tpu_pods.md.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: launch_tpu.sh --tpu NAME --zone ZONE --gin FILE --model-dir gs://BUCKET/PATH [option ...] [-- t5x.train flags]

  --tpu NAME         name of an existing TPU VM or pod slice
  --zone ZONE        zone of the TPU VM
  --gin FILE         gin file, relative to the repository root
  --model-dir DIR    a gs:// path that every worker can write (checkpoints, metrics)
  --data-dir DIR     FSA_DATA_DIR on the workers (default: data; a gs:// path works for cached tasks)
  --project NAME     Google Cloud project (default: that of gcloud)
  --revision REV     git revision to run (default: HEAD; must be pushed)
  --repository URL   repository that the workers clone (default: the remote "origin")
  --python NAME      Python 3.11, 3.12 or 3.13 on the workers (default: python3); it creates .venv there
  --run              execute the commands; without it they are only printed
  -h, --help         this text

Everything after -- is passed to python -m t5x.train, for example --gin.TRAIN_STEPS=1000.
USAGE
}

die() { echo "launch_tpu.sh: $1" >&2; exit 2; }

tpu="" zone="" gin="" model_dir="" data_dir="data" project="" revision="HEAD" repository="" python="python3" run=0
while [ $# -gt 0 ]; do
  case "$1" in
    --tpu|--zone|--gin|--model-dir|--data-dir|--project|--revision|--repository|--python)
      [ $# -ge 2 ] || die "$1: expected a value, found the end of the command line; see --help"
      name=${1#--}; printf -v "${name//-/_}" '%s' "$2"; shift 2 ;;
    --run) run=1; shift ;;
    -h|--help) usage; exit 0 ;;
    --) shift; break ;;
    *) die "unknown option $1; see --help" ;;
  esac
done
for required in tpu zone gin model_dir; do
  [ -n "${!required}" ] || die "--${required//_/-} is missing; see --help"
done

cd "$(dirname "$0")"
[ -f "$gin" ] || die "--gin $gin: expected a file in $(pwd), found none"
[[ "$model_dir" == gs://* ]] || die "--model-dir $model_dir: expected a gs:// path (every worker writes its part of a checkpoint), found a local one"
revision=$(git rev-parse --verify --quiet "$revision^{commit}") || die "--revision: no such commit"
if [ -z "$repository" ]; then
  repository=$(git remote get-url origin 2>/dev/null) || die "--repository is missing and this checkout has no remote named origin"
fi

quote() { printf '%q ' "$@"; }
# The workers find each other with the TPU's metadata server; t5x.train calls jax.distributed.initialize automatically.
train=$(quote python -m t5x.train --gin_file="$gin" --gin.MODEL_DIR="'$model_dir'" "$@")
setup="set -e; if [ ! -d fsa_jax_run ]; then git clone $(quote "$repository")fsa_jax_run; fi; cd fsa_jax_run; \
git fetch --quiet origin; git checkout --quiet --detach $revision; if [ ! -d .venv ]; then $(quote "$python")-m venv .venv; fi; \
.venv/bin/pip install --quiet -r requirements-tpu.txt"
start="cd fsa_jax_run && . .venv/bin/activate && export FSA_DATA_DIR=$(quote "$data_dir")&& exec $train"

ssh=(gcloud compute tpus tpu-vm ssh "$tpu" --zone "$zone" --worker=all)
if [ -n "$project" ]; then ssh+=(--project "$project"); fi
for command in "$setup" "$start"; do
  if [ "$run" = 1 ]; then "${ssh[@]}" --command "$command"; else quote "${ssh[@]}" --command "$command"; echo; fi
done
