"""The server's HTTP/1.1 connections."""
