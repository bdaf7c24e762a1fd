"""Where do problems come from, and which rows are dropped?"""
