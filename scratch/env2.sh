. /work/venv/bin/activate
export PYTHONPATH=/work/edit OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive GLIBC_TUNABLES=glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296 TOKENIZERS_PARALLELISM=false
