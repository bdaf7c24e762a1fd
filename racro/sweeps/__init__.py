"""What does a sweep vary, and which variant wins?"""
