"""For all tests: a property that is slow on a busy computer is no fault."""

from hypothesis import settings

settings.register_profile("tests", settings.get_profile("default"), deadline=None)
settings.load_profile("tests")
