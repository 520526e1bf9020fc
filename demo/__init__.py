"""`python -m demo`: a training loses its primary three ways, live, and continues."""
