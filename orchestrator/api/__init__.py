"""What `import orchestrator as po` offers: a function for every command, and classes of what they return."""
