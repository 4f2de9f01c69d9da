"""What MLflow's pages show of a study, and the server that shows them."""
