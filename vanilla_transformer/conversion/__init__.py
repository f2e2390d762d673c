"""Models of other implementations: export and import. Each module is one of them."""
