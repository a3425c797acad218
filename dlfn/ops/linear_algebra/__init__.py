"""Linear maps, products, norms, linear systems, eigenvalues, and the embedding, a product with one-hot rows."""
