"""The consumer contract: one set of tests, run over a communicator, over the project's server and over uvicorn."""
