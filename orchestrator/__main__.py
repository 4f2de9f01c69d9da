"""`python -m orchestrator`: the same as the `orchestrator` command, for `ray job submit`."""

from orchestrator.cli import main

main()
