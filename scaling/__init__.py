"""Where should a fixed training budget go: more parameters or more tokens?"""
