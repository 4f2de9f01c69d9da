"""The papers' tables, as files and the command that runs them."""
