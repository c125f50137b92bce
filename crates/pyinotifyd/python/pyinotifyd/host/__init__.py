"""The host: the Python process in which the daemon has the config executed, and custom jobs run.

It is started with a socket, executes the config, describes what it found, and ends; or stays, if the config left
something that only Python can do. The modules, in the order of their use: `wire` frames and JSON, `records` Python's
logging on its way to the daemon, `load` executes, `describe` turns objects into JSON, `errors` says what is wrong,
`stay` waits, `jobs` runs coroutines, `forked` ends children that come back. Each is imported when it is needed, as a
start is mostly imports.
"""
