"""Records and images: read, checked, and made into what a model takes."""
