"""Stories with several hosts: real processes on a loopback network of their own.

cluster   hosts (`meshd run`), their state directories, their logs and their end
app       a small application: says who it is, logs what it received, can be slow or ill
"""
