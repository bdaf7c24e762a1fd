"""Where are files kept, and how do they survive failures?"""
