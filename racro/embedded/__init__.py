"""What runs without a GPU or a model hub? A synthetic world, two tiny models, and the recipe that rebuilds them."""
