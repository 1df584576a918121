"""What loaders need of an image, by subject: the predicates that the rows of ``loaders/*.toml`` name."""
