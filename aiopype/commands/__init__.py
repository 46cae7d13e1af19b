"""Commands that look into a flow's topics, or decide something there, beside its workers.

A group of commands is a module that declares it; what it does and how it is shown is in modules
beside it. They start nothing and join no group. What is a worker's business does not belong here.
"""
