"""
Who gets which connection: reuse an idle one, dial a new one, or wait in line.
"""
