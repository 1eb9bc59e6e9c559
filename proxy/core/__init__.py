"""Every rule of the proxy, as pure functions: no I/O, no clock, no event loop."""
