"""Will this machine, cluster and data work? Checks that are made before anything is trained."""
