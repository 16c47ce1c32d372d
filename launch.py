"""The command line of a checkout: runs the stage that a config names.

python launch.py --config=configs/pipeline.py --config.videos=DIR --config.photos=DIR --workdir=DIR

An installed package has the command `fer-jax` instead; see fer_jax/command_line.py for both.
"""

from fer_jax import interrupts

if __name__ == "__main__":
    interrupts.exit_at_once()  # before the imports, which take seconds

from fer_jax import command_line

if __name__ == "__main__":
    command_line.launch()
