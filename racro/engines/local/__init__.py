"""How is text generated in this process? By transformers, or by rules without a model."""
