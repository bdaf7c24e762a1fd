"""How are child processes started, watched and ended?"""
