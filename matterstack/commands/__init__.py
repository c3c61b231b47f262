"""The commands of the command line, a module per noun: each adds its words, and does what they say."""
