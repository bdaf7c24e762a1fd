"""How is a model found, named, loaded and adapted?"""
