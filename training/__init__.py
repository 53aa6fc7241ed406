"""How the models of this project are trained; nothing here is needed to run them."""
