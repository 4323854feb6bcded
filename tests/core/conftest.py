"""Property tests here draw the same examples every time and are not judged by this host's speed."""

from hypothesis import settings

settings.register_profile("core", deadline=None, derandomize=True)
settings.load_profile("core")
