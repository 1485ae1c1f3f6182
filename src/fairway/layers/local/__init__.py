"""The layer for several processes on one machine, which talk through a broker over a Unix socket."""
