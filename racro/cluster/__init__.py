"""How do our processes run on the nodes of a Ray cluster?"""
