"""How do an image and a question become an answer?"""
