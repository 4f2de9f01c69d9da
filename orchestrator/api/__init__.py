"""Public interface, `import orchestrator as po`: a function for every command, and the classes of results."""
