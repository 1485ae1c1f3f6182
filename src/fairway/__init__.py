"""Fairway: real time for Django. The engine below the package `channels`, and interfaces that Channels does not have.

Applications import the new interfaces from here, so that code that needs Fairway is easy to recognise. Importing the
package itself loads none of its modules.
"""

__version__ = "0.1.0"
