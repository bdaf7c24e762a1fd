"""What are captioner and reasoner asked during training?"""
