"""`make bench`: CPU time per request and per stream event of the proxy, beside a bare aiohttp relay.

The method: every target gets the same requests from the same driver and forwards to the same upstream. Targets take
turns in short runs, in random order, and the ratio is the median over the rounds of two neighbouring runs, so that
noise on a shared machine hits both alike. CPU time (user + system, all threads) is read from /proc around a counted
number of requests.
"""
