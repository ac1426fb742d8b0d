"""The control socket: through it, whoever runs a service looks into it from outside, also while its loop is blocked."""
