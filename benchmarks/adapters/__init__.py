"""One module for each agent that is measured, and one for each kind of block.

Each is imported in a worker, under the interpreter of what it measures; only there, and only inside
functions where a module serves several, are other libraries imported. Code of a checkout is
imported from where it lies, never copied.
"""
