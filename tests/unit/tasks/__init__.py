"""How do stages keep engines, trainers and what these leave on this machine?"""
