"""The worker's side: the SDK that a training script imports, and the agent beside it.

`understudy.keras.train` for a compiled Keras model, `understudy.session.Session` for anything else. Importing this
package imports neither.
"""

__version__ = "0.1.0"
