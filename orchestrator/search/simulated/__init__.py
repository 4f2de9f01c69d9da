"""The search engine on a simulated clock, in worlds whose best configuration is known."""
