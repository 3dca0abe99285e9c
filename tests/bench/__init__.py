"""`make bench`: CPU time per request and per stream event of the proxy, beside a bare aiohttp relay.

The method: every target gets the same requests from the same driver and forwards to the same upstream; the targets take
turns inside each round, in random order, so that noise on a shared machine hits all alike; CPU time (user + system, all
threads) is read from /proc around a counted number of requests; a fixed piece of work timed before and after each run
corrects for the speed the core had just then; medians over the rounds; ratios only within one run.
"""
