"""Makes `python -m fer_jax` run the command `fer-jax`."""

from fer_jax import command_line

if __name__ == "__main__":
    command_line.installed()
