"""
What speaks to the user of the library.
"""
