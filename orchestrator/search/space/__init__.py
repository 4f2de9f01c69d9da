"""TOML file -> checked search space -> distributions and configurations."""
