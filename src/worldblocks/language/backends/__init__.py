"""Language models: packaged, local, behind an endpoint; and a cache of their replies."""
