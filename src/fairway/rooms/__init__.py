"""Rooms: what goes on by itself while somebody is there, in one process of all. For games, auctions, simulations."""

from __future__ import annotations

from fairway.rooms.room import Room
from fairway.rooms.visits import AsyncRoomsMixin, RoomsMixin, SyncVisit, TooManyRooms, Visit

__all__ = ["AsyncRoomsMixin", "Room", "RoomsMixin", "SyncVisit", "TooManyRooms", "Visit"]
