"""
One concern a file, all of one shape: ``async def middleware(request, next) -> Response``.
"""
