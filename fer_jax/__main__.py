"""`python -m fer_jax` is the command `fer-jax`."""

from fer_jax import command_line

if __name__ == "__main__":
    command_line.installed()
