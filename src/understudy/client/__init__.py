"""The SDK: a blocking client and an asynchronous one with the same surface.

It knows the routes and the parameters' names; it needs neither torch nor a server.
"""

from .awaitable import AsyncClient, AwaitableJob
from .blocking import Client, Job
from .pictures import PictureAnswer

__all__ = ["AsyncClient", "AwaitableJob", "Client", "Job", "PictureAnswer"]
