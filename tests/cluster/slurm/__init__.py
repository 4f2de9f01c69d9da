"""`cluster/slurm.sbatch` under a Slurm of its own: two nodes with GPUs that are empty files, on this machine."""
