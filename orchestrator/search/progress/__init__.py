"""How a running study stands, and when it will end."""
