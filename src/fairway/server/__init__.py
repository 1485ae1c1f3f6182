"""The server: sockets, deadlines and processes around the pure cores of `fairway.protocols`; ASGI upwards.

It serves any ASGI 3 application and imports neither Django nor `channels`; what it shares with channel layers
is in `fairway.delivery`. The README of this folder says which object lives how long and how a message travels.
"""
