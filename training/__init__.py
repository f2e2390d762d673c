"""The training program of vanilla_transformer: what a clone of the repository runs."""
