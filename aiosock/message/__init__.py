"""
What travels: requests, responses, their bodies and content codings. No sockets here.
"""
