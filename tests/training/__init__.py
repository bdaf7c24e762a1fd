"""Do updates of real models do what they promise? Tiny models, a few steps each."""
