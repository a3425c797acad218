"""Log-densities, information theory and descriptive statistics."""
