"""How is text generated with vLLM, as a library or as a server that we start?"""
