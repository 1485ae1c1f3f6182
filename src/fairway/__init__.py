"""Fairway: real time for Django. The engine below the package `channels`, and everything Channels never had.

New interfaces are imported from here, so that code that is not portable to Channels shows. Importing the package
itself loads nothing.
"""

__version__ = "0.1.0"
