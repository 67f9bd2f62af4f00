"""The benchmark harness: the Python standard library and nothing else.

    cli        flags → the scenarios to run
    scenarios  what is measured, a function a scenario; the bars it is held against
    servers    what is measured: how each server is configured and started
    provision  installs peers, builds guests, the ceiling and Wharf
    process    a running server: readiness, CPU time, memory, its end
    load       runs the load generator
    report     medians, tables, bars, JSON
"""
