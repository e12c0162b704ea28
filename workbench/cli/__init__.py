"""The command `mitral`: one file per noun. Heavy parts are imported inside the commands that need them."""
