"""Makes a context on import, as the real module does."""

import atexit

from pycuda import driver

driver.init()
device = driver.Device(0)
context = device.make_context()


def _finish():
    context.pop()
    context.detach()


atexit.register(_finish)
