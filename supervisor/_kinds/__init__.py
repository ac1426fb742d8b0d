"""How runs are carried out. A kind knows no other kind."""
