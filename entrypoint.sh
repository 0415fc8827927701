#!/bin/sh
# Starts the job after finding out two things that it cannot see for itself: how many threads this container may use, and
# where the platform that runs it wants the results. What the user has set stays as it is.
set -eu

app=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=${ENTRYPOINT_ROOT:-} # the tests' stand-in for /

# say LEVEL EVENT MESSAGE: one line, in the format that LOG_FORMAT asks for
say() {
  if [ "${LOG_FORMAT:-}" = json ]; then
    printf '{"time": "%s", "level": "%s", "event": "%s", "message": "%s"}\n' "$(date -u +%Y-%m-%dT%H:%M:%S.000+00:00)" \
      "$1" "$2" "$(printf %s "$3" | tr -s '\000-\037' ' ' | sed 's/[\\"]/\\&/g')"
  elif [ "$1" != info ]; then
    printf '%s: %s\n' "$1" "$3"
  else
    printf '%s\n' "$3"
  fi
}

# shown ADDRESS: without user and password, a signed query, and what would begin a new line
shown() {
  printf %s "$1" | tr -s '\000-\037\177' ' ' | sed 's#\([:/]\)[^/ ]*@#\1***@#; s/?.*/?***/'
}

# The CPUs that the cgroup's quota allows (v2, then v1), whole ones, at least 1; nothing where there is no quota.
quota() {
  if [ -r "$root/sys/fs/cgroup/cpu.max" ]; then
    read -r allowed period <"$root/sys/fs/cgroup/cpu.max"
  elif [ -r "$root/sys/fs/cgroup/cpu/cpu.cfs_quota_us" ]; then
    read -r allowed <"$root/sys/fs/cgroup/cpu/cpu.cfs_quota_us"
    read -r period <"$root/sys/fs/cgroup/cpu/cpu.cfs_period_us"
  fi
  case ${allowed:-max} in *[!0-9]*) return ;; esac # "max" in v2, -1 in v1
  echo $((allowed >= 2 * period ? allowed / period : 1))
}

# use_output DIRECTORY: the platform's place, unless the user named another one than the image's /outputs
use_output() {
  [ "${OUTPUT:-/outputs}" = /outputs ] && export OUTPUT="$1"
  found="$found, OUTPUT=$(shown "$OUTPUT")"
}

# pick_model VARIABLE INDEX: the model of this index (from 0) in MODELS, a list with commas or blanks
pick_model() {
  [ -n "${MODELS:-}" ] || return 0
  variable=$1 index=$2
  # shellcheck disable=SC2046 # words are wanted
  set -- $(echo "$MODELS" | tr ',' ' ')
  if [ "$index" -ge $# ]; then
    say error fault "$variable=$index, but MODELS names $# model(s), counted from 0: $*. Run as many indices as models."
    exit 78
  fi
  shift "$index"
  export MODEL="$1"
  found="$found, $variable=$index, MODEL=$MODEL"
}

# contained: whether this is a container, whose own files are gone when it ends
contained() {
  [ "$app" = /app ] || [ -e "$root/.dockerenv" ] || [ -e "$root/run/.containerenv" ] || [ -n "${KUBERNETES_SERVICE_HOST:-}" ]
}

# inside NAME VALUE DEFAULT FOLDER: what a place means in a container. Empty, or as the default is written in an env file, it
# is the folder that is mounted; another one that begins in the working folder would vanish with the container.
inside() {
  case $2 in
  "" | "$3") export "$1=$4" ;;
  /* | *://*) ;;
  *)
    say error fault "$1=$(shown "$2") begins in a folder of the container, whose files are gone when it ends. Leave it out: \
then it is $4, where a folder of yours is mounted (docker run -v \"\$PWD$4:$4\"); or begin it with /."
    exit 78
    ;;
  esac
}

# mounted FOLDER: whether it lies on a mount of its own; true where that cannot be known
mounted() {
  [ -r "$root/proc/self/mountinfo" ] || return 0
  while read -r _ _ _ _ point _; do
    case $1/ in "$point"/*) [ "$point" = / ] || return 0 ;; esac
  done <"$root/proc/self/mountinfo"
  return 1
}

if contained; then
  inside OUTPUT "${OUTPUT:-}" ./outputs /outputs
  inside DATA_DIR "${DATA_DIR:-}" ./data /data
fi

threads="threads: as torch chooses"
case ${OMP_NUM_THREADS:-} in
"") ;;
*[!0-9,]* | 0* | ,*) # OpenMP would say so and take every core of the host
  say warning threads "OMP_NUM_THREADS=$OMP_NUM_THREADS is no whole number from 1 on: left out"
  unset OMP_NUM_THREADS
  ;;
esac
if [ -n "${OMP_NUM_THREADS:-}" ]; then
  threads="threads: $OMP_NUM_THREADS (OMP_NUM_THREADS)"
elif cpus=$(quota) && [ -n "$cpus" ] && [ "$cpus" -lt "$(nproc)" ]; then
  export OMP_NUM_THREADS="$cpus" # torch would count the host's cores, and its threads would wait for each other
  threads="threads: $cpus (CPU quota)"
fi

# As `python -m job`, which would take a job.py or random.py out of the working folder; PYTHONSAFEPATH keeps that folder
# from the job's own processes, from Python 3.11 on.
export PYTHONSAFEPATH=1
start='import sys; sys.path[:] = [place for place in sys.path if place]
import runpy; runpy.run_module("job", run_name="__main__", alter_sys=True)'
set -- -c "$start" "$@"
if [ -n "${SM_MODEL_DIR:-}${TRAINING_JOB_ARN:-}" ]; then
  found="SageMaker"
  export SM_MODEL_DIR="${SM_MODEL_DIR:-$root/opt/ml/model}" SM_OUTPUT_DATA_DIR="${SM_OUTPUT_DATA_DIR:-$root/opt/ml/output/data}"
  # Where checkpoints are configured, SageMaker copies that folder to S3 all the time and brings it back after a spot stop.
  if [ -d "$root/opt/ml/checkpoints" ]; then use_output "$root/opt/ml/checkpoints"; else use_output "$SM_OUTPUT_DATA_DIR"; fi
  shift 2
  [ "${1:-}" != train ] || shift # SageMaker's own argument
  set -- "$app/deploy/sagemaker/train.py" "$root/opt/ml/output/failure" "$@"
elif [ -n "${AIP_MODEL_DIR:-}" ]; then
  found="Vertex AI"
  bucket=${AIP_MODEL_DIR#gs://} # Vertex mounts every bucket below /gcs
  use_output "$root/gcs/${bucket%/}"
elif [ -n "${KAGGLE_KERNEL_RUN_TYPE:-}" ]; then
  found="Kaggle"
  use_output "$root/kaggle/working"
elif [ -n "${AWS_BATCH_JOB_ID:-}" ]; then
  found="AWS Batch"
  [ -z "${AWS_BATCH_JOB_ARRAY_INDEX:-}" ] || pick_model AWS_BATCH_JOB_ARRAY_INDEX "$AWS_BATCH_JOB_ARRAY_INDEX"
elif [ -n "${JOB_COMPLETION_INDEX:-}" ]; then
  found="Kubernetes indexed job"
  pick_model JOB_COMPLETION_INDEX "$JOB_COMPLETION_INDEX"
elif [ -n "${KUBERNETES_SERVICE_HOST:-}" ]; then
  found="Kubernetes"
else
  found="none, OUTPUT=$(shown "${OUTPUT:-./outputs}")"
fi
case "$found $*" in
SageMaker* | Vertex* | Kaggle* | *--help | *--print-env*) ;;
*)
  case ${OUTPUT:-} in
  /*)
    if contained && ! mounted "$OUTPUT"; then
      say warning output "nothing is mounted at $OUTPUT: the results are gone when this container is removed. \
docker run -v \"\$PWD/outputs:$OUTPUT\" keeps them"
    fi
    ;;
  esac
  ;;
esac
if [ "${TORCH_HOME:-}" = /data/torch ] && [ ! -w /data ]; then export TORCH_HOME=/tmp/torch; fi

say info platform "platform: $found; $threads"
export PYTHONPATH="$app${PYTHONPATH:+:$PYTHONPATH}"
exec python3 "$@"
