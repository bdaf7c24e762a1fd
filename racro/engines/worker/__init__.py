"""How does an engine run in a separate process?"""
