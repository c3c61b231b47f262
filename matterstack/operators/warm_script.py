"""The script that a warm server begins as: it is short, since Python lets go of what it has parsed when a script ends.

Each call would do that, for all of the server: a third of a thousand pages to copy. `warm_server` lies beside it.
"""

if __name__ == "__main__":
    import os

    __file__ = os.path.join(os.path.dirname(os.path.abspath(__file__)), "warm_server.py")
    with open(__file__, "rb") as file:
        code = compile(file.read(), __file__, "exec")
    exec(code)
