#!/bin/bash
# q.sh NAME CORE BASE method args…
. /work/env2.sh; cd /work/edit
N=$1; C=$2; B=$3; shift 3
OMP_NUM_THREADS=1 taskset -c $C python -m experiments.run "$@" --task.base $B --runs /work/q/$N > /work/q/$N.log 2>&1
echo "$N rc $?" >> /work/q/results.txt
