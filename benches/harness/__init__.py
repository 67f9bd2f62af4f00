"""The benchmark harness: the Python standard library and nothing else.

cli         flags → the scenarios to run
scenarios   what each scenario measures, shows and promises
under_load  hello, latency, fib
cold        first-request, restart-1000, random-10000
neighbour   neighbour
measure     what they have in common
servers     what is measured: how each server is configured and started
provision   installs peers, builds guests, the ceiling and Wharf
process     a running server: readiness, CPU time, memory, its end
load        runs the load generator
report      medians, tables, bars, JSON
"""
