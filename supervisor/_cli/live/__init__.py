"""The live screen of `top`. It needs textual, which nothing else imports."""
