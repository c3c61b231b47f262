"""The commands of the command line, a module a noun: each adds its words, and does what they say."""
